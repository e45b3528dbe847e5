"""``fedcli gc``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.run import Run


@shown("--keep-last --dry-run --run", "fedcli gc --keep-last 2 --dry-run")
def gc(
    keep_last: int = typer.Option(
        ...,
        "--keep-last",
        min=1,
        help="Leave the last N complete rounds and the open one as they are.",
        metavar="N",
    ),
    run: Path = RUN,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Say what would be removed, and remove nothing."
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Remove updates and states of old rounds; global models and manifests stay."""
    from fedcli.cli.render.gc import render
    from fedcli.steps.gc import gc as step

    opened = Run.open(run)
    with Output("gc", printing) as output:
        result = step(opened, keep_last, dry_run=dry_run, progress=output)
        output.result(result, render)
