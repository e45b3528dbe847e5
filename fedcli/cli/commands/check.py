"""``fedcli check``."""

import sys
from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.sections import CheckOptions
from fedcli.cli.options.shared import OutputOptions
from fedcli.cli.render.output import Output, plain
from fedcli.errors import ExitStatus
from fedcli.options import NONE
from fedcli.text import printable


@shown("--data --run", "fedcli check --data photos")
def check(
    data: str = typer.Option(
        ...,
        "--data",
        help="A folder of pictures, an npz file, or a data set by name.",
        metavar="PATH",
        show_default=False,
    ),
    run: Path | None = typer.Option(
        None,
        "--run",
        "-r",
        help="Read it as a client's own data of this run [as a new data set]",
        metavar="DIR",
    ),
    reading: CheckOptions = NONE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Read data as training would, and show how it was understood and what is likely wrong."""
    from fedcli.cli.render.check import failure, render
    from fedcli.datasets import DataOptions
    from fedcli.options import declared
    from fedcli.run import Run
    from fedcli.steps.check import check as step

    of_all = {name: value for name, value in reading.items() if name in declared(DataOptions)}
    own = {name: value for name, value in reading.items() if name not in of_all}
    with Output("check", printing) as output:
        opened = None if run is None else Run.open(run)
        options = DataOptions(**of_all)
        result = step(data, run=opened, reading=own, options=options, progress=output)
        error = None if result.usable else failure(result)
        values = plain(result) if error is None else {**plain(result), "error": error}
        output.result(values, lambda _: render(result))
    if error is not None:
        if not printing.json:
            print(f"error: {printable(error['message'])}", file=sys.stderr)
        raise typer.Exit(ExitStatus.BAD_INPUT)
