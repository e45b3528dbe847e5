"""``fedcli gc``."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.options.shared import OutputOptions, RunOption
from fedcli.cli.render.output import Output, figures_table, size_of
from fedcli.run import DEFAULT_RUN, Run

if TYPE_CHECKING:
    from fedcli.steps.gc import GcResult


def gc(
    keep_last: Annotated[
        int,
        typer.Option(
            "--keep-last",
            min=1,
            help="Leave the last N complete rounds, and the open one, as they are.",
            metavar="N",
        ),
    ],
    run: RunOption = DEFAULT_RUN,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Remove updates and states of old rounds; global models and manifests stay."""
    from fedcli.steps.gc import gc as step

    opened = Run.open(run)
    with Output("gc", printing) as output:
        result = step(opened, keep_last, dry_run=dry_run, progress=output)
        output.result(result, _render)


def _render(result: "GcResult") -> list[RenderableType]:
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


def _kept(result: "GcResult") -> list[RenderableType]:
    """Say how many files of old rounds are kept, and why."""
    reasons = Counter(file.reason for file in result.kept)
    return [
        f"kept {count} file{'s' * (count > 1)} of old rounds: {reason}"
        for reason, count in reasons.items()
    ]
