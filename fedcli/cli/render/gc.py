"""What ``fedcli gc`` shows of its result."""

from collections import Counter

from rich.console import RenderableType

from fedcli.cli.render.output import size_of
from fedcli.cli.render.tables import figures_table
from fedcli.steps.gc import GcResult


def render(result: GcResult) -> list[RenderableType]:
    """Draw what was removed, or would be, and name what was kept."""
    if not result.files:
        return [
            f"nothing to remove: only {result.keep_last} rounds are kept already",
            *_kept(result),
        ]
    table = figures_table(["what"], ["files", "size"])
    for entry in result.removed:
        table.add_row(entry.what, str(entry.files), size_of(entry.bytes))
    first, last = result.rounds[0], result.rounds[-1]
    rounds = f"round {first}" if first == last else f"rounds {first}–{last}"
    verb = "would remove" if result.dry_run else "removed"
    total = f"{verb} {result.files} files of {rounds}, {size_of(result.bytes)}"
    return [table, total, *_kept(result)]


def _kept(result: GcResult) -> list[RenderableType]:
    """Say how many files of old rounds are kept, and why."""
    reasons = Counter(file.reason for file in result.kept)
    return [
        f"kept {count} file{'s' * (count > 1)} of old rounds: {reason}"
        for reason, count in reasons.items()
    ]
