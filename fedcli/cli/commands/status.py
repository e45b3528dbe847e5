"""``fedcli status``."""

from pathlib import Path

import typer

from fedcli.cli.options.sections import SamplingOptions
from fedcli.cli.options.shared import ROUND, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE
from fedcli.run import Run


def status(
    run: Path = RUN,
    round_number: int | None = ROUND,
    sampled: bool = typer.Option(
        False,
        "--sampled",
        help="Print only the clients drawn for the round, as train-client --id takes them.",
    ),
    sampling: SamplingOptions = NONE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Show where the run stands: who has delivered, who is missing, what to type next."""
    from fedcli.cli.render.status import render, render_sampled
    from fedcli.steps.status import status as step

    opened = Run.open(run)
    with Output("status", printing) as output:
        result = step(opened, round_number, sampling)
        if sampled and not result.clients:
            raise UsageError("--sampled: this run was made without a list of clients")
        output.result(result, render_sampled if sampled else render)
