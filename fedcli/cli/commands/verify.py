"""``fedcli verify``."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from fedcli.cli.options.shared import OutputOptions, RunOption
from fedcli.cli.render.output import Output, figures_table, plain
from fedcli.errors import ExitStatus, RunFormatError
from fedcli.run import DEFAULT_RUN
from fedcli.text import printable

if TYPE_CHECKING:
    from fedcli.steps.verify import VerifyResult
    from fedcli.verification.findings import Finding

TITLES = {
    "changed": "changed",
    "lost": "lost",
    "differs": "came out otherwise",
    "missing": "missing, which is no fault",
    "not-replayed": "not made again",
    "foreign": "not of the run",
    "note": "to be noted",
}
_MOST = 40  # lines for one of these; --json has all of them
_MOST_NAMES = 8  # of files in one line


def verify(
    run: RunOption = DEFAULT_RUN,
    round_: Annotated[
        int | None,
        typer.Option(
            "--round",
            min=0,
            help="Check the files of this round only, and the model that it started from.",
            metavar="N",
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Make global models and updates again from what the files record, and compare"
            " the bytes.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="FEDCLI_MODEL",
            help="--replay: package.module:factory, for a run of a model of your own; it must name"
            " the same.",
            metavar="NAME",
        ),
    ] = None,
    reduce: Annotated[
        str | None,
        typer.Option(
            help="--replay: package.module:function, for rounds that used it; it must name the"
            " same.",
            metavar="NAME",
        ),
    ] = None,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Check every file of a run by its SHA-256 and its shape, and say what was changed."""
    from fedcli.steps.verify import verify as step
    from fedcli.verification.replay_sandbox import Own

    with Output("verify", printing) as output:
        result = step(
            run,
            round_number=round_,
            replay=Own(model, reduce) if replay else None,
            progress=output,
        )
        error = None if result.sound else _error(result)
        values = plain(result) if error is None else {**plain(result), "error": error}
        output.result(values, lambda _: _render(result))
    if error is not None:
        if not printing.json:
            print(f"error: {printable(error['message'])}", file=sys.stderr)
        raise typer.Exit(ExitStatus.BAD_INPUT)


def _error(result: "VerifyResult") -> dict[str, Any]:
    files = {finding.file for finding in result.findings if finding.wrong}
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    message = f"{result.run}: {count} not what the run was made with: {min(files)}"
    more = ", …" if len(files) > 1 else ""
    return {"kind": RunFormatError.kind, "message": message + more, "hint": None}


def _render(result: "VerifyResult") -> list[RenderableType]:
    table = figures_table(["what"], ["files", "sound", "missing", "changed"])
    for part in result.parts:
        figures = (part.files, part.sound, part.missing, part.changed)
        table.add_row(part.what, *(str(figure or "") for figure in figures))
    lines: list[RenderableType] = [table]
    for problem, title in TITLES.items():
        found = [finding for finding in result.findings if finding.problem == problem]
        if found:
            lines += ["", f"{title}:", *_listed(found)]
    verdict = "sound" if result.sound else "not sound"
    return [*lines, "", f"{printable(str(result.run))}: {verdict}"]


def _listed(findings: "Sequence[Finding]") -> list[RenderableType]:
    """Tell of files of one folder of which the same is to be said in one go."""
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


def _sentence(finding: "Finding") -> str:
    hashes = [
        f"{what} {sha256[:12]}…"
        for what, sha256 in (("expected", finding.expected), ("found", finding.found))
        if sha256 is not None
    ]
    return f"{finding.message}{': ' if hashes else ''}{', '.join(hashes)}"
