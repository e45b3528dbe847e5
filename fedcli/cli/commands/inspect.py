"""``fedcli inspect``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output


@shown("--run", "fedcli inspect rounds/0001/global.safetensors")
def inspect(
    file: Path = typer.Argument(
        ...,
        help="A safetensors file: its path, or its path in the run.",
        metavar="FILE",
        show_default=False,
    ),
    other: Path | None = typer.Argument(
        None, help="Another file to compare it with.", metavar="OTHER", show_default=False
    ),
    run: Path = RUN,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Show what is in a checkpoint, update, shard or any safetensors file, or compare two."""
    from fedcli.cli.render.inspect import render, render_comparison
    from fedcli.steps.inspect import compare
    from fedcli.steps.inspect import inspect as step

    with Output("inspect", printing) as output:
        if other is None:
            output.result(step(_found(file, run)), render)
        else:
            output.result(compare(_found(file, run), _found(other, run)), render_comparison)


def _found(path: Path, run: Path) -> Path:
    """Return the path, or the one in the run directory if only that exists."""
    return run / path if not path.exists() and (run / path).exists() else path
