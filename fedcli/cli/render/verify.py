"""What ``fedcli verify`` shows of its result, and the error that it ends with."""

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from fedcli.cli.render.tables import figures_table
from fedcli.errors import RunFormatError
from fedcli.run.spending import PrivacyStatus
from fedcli.steps.verify import VerifyResult
from fedcli.text import printable
from fedcli.verification.findings import Finding

TITLES = {
    "changed": "changed",
    "lost": "lost",
    "differs": "replayed differently",
    "unchecked": "not checked: not here, or nothing here names its SHA-256",
    "missing": "missing, which is not a fault",
    "not-replayed": "not replayed",
    "foreign": "not part of the run",
    "note": "notes",
}
_MOST = 40  # lines of findings of one kind; --json has all of them
_MOST_NAMES = 8  # files in one line


def failure(result: VerifyResult) -> dict[str, Any]:
    """Return the error of a run that is not sound."""
    files = {finding.file for finding in result.findings if finding.wrong}
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    message = f"{result.run}: {count} not what the run was made with: {min(files)}"
    more = ", …" if len(files) > 1 else ""
    return {"kind": RunFormatError.kind, "message": message + more, "hint": None}


def render(result: VerifyResult) -> list[RenderableType]:
    """Draw how many files were checked, what was found, and the verdict."""
    table = figures_table(["what"], ["files", "sound", "missing", "changed"])
    for part in result.parts:
        figures = (part.files, part.sound, part.missing, part.changed)
        table.add_row(part.what, *(str(figure or "") for figure in figures))
    lines: list[RenderableType] = [table]
    for problem, title in TITLES.items():
        found = [finding for finding in result.findings if finding.problem == problem]
        if found:
            lines += ["", f"{title}:", *_listed(found)]
    if spent := _spent(result.privacy):
        lines += ["", *spent]
    return [*lines, "", f"{printable(str(result.run))}: {_verdict(result)}"]


def _spent(found: PrivacyStatus | None) -> list[str]:
    """Say what protects each example and each client, as far as the files here tell."""
    if found is None:
        return []
    budgets = [("client", found.clients)] if found.clients else []
    known = [one for one in found.examples if one.epsilon == found.largest]
    budgets = [*(("example", one) for one in known[:1]), *budgets]
    return [
        f"each {whom}: ε {'has no bound' if one.epsilon is None else f'= {one.epsilon:.3f}'}"
        f" at δ = {one.delta:g}, by {one.source}"
        for whom, one in budgets
    ]


def _verdict(result: VerifyResult) -> str:
    if not result.sound:
        return "not sound"
    return "sound" if result.whole else "sound as far as it goes"


def _listed(findings: Sequence[Finding]) -> list[RenderableType]:
    """List findings; files of one folder with the same finding share a line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        folder, _, name = finding.file.rpartition("/")
        alike.setdefault((folder, _sentence(finding)), []).append(name)
    lines: list[RenderableType] = []
    for (folder, sentence), names in list(alike.items())[:_MOST]:
        shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        where = f"{folder}/" if folder else ""
        count = f" ({len(names)} files)" if len(names) > 1 else ""
        text = Text(printable(f"{where}{shown}{count}: {sentence}"), overflow="fold")
        lines.append(Padding(text, (0, 0, 0, 2), expand=False))
    if len(alike) > _MOST:
        lines.append(f"  and {len(alike) - _MOST} more; --json lists all")
    return lines


def _sentence(finding: Finding) -> str:
    hashes = [
        f"{what} {sha256[:12]}…"
        for what, sha256 in (("expected", finding.expected), ("found", finding.found))
        if sha256 is not None
    ]
    return f"{finding.message}{': ' if hashes else ''}{', '.join(hashes)}"
