"""``fedcli status``."""

from pathlib import Path

import typer

from fedcli.cli import streams
from fedcli.cli.manual import shown
from fedcli.cli.options.sections import SamplingOptions
from fedcli.cli.options.shared import ROUND, RUN, OutputOptions
from fedcli.cli.options.watching import Watching
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE
from fedcli.run import Run


@shown("--watch --run", "fedcli status --watch")
def status(
    run: Path = RUN,
    round_number: int | None = ROUND,
    sampled: bool = typer.Option(
        False,
        "--sampled",
        help="Print only the clients drawn for the round, as train-client --id takes them.",
    ),
    sampling: SamplingOptions = NONE,
    privacy: bool = typer.Option(
        False, "--privacy", help="Show what was spent of the privacy of examples and clients."
    ),
    delta: float | None = typer.Option(
        None,
        "--delta",
        help="The δ of ε for --privacy. (default: that of the plan, else 1e-05)",
        metavar="D",
    ),
    state: Path | None = typer.Option(
        None,
        "--state",
        help="Folder with clients' own ledgers, as train-client takes it. (default: in the run)",
        metavar="DIR",
    ),
    watching: Watching = Watching(),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Show where the run stands: who has delivered, who is missing, what to type next."""
    from fedcli.cli.render.status import render, render_privacy, render_sampled
    from fedcli.steps.status import status as step
    from fedcli.steps.status import status_with_privacy

    _check_watching(watching, json=printing.json, sampled=sampled)
    _check_privacy(privacy, delta, state, other=watching.watch or sampled)
    opened = Run.open(run)
    with Output("status", printing) as output:
        if watching.watch:
            from fedcli.cli.render.watch import watch

            streams.stop_like_an_interrupt()
            watch(output, lambda: step(opened, round_number, sampling), watching.wait)
            return
        if privacy:
            found = status_with_privacy(
                opened, round_number, sampling, delta=delta, directory=state
            )
            output.result(found, render_privacy)
            return
        result = step(opened, round_number, sampling)
        if sampled and not result.clients:
            raise UsageError("--sampled: this run was made without a list of clients")
        output.result(result, render_sampled if sampled else render)


def _check_watching(watching: Watching, *, json: bool, sampled: bool) -> None:
    """Raise ``UsageError`` for options that do not go with ``--watch``, or need it."""
    if watching.interval is not None and not watching.watch:
        raise UsageError("--interval: is the time between two looks of --watch, which is not given")
    if watching.watch and json:
        raise UsageError(
            "--watch: cannot be combined with --json, which prints exactly one object",
            hint="a script that asks again and again calls fedcli status --json each time",
        )
    if watching.watch and sampled:
        raise UsageError("--watch: shows the whole status, and cannot be combined with --sampled")


def _check_privacy(privacy: bool, delta: float | None, state: Path | None, *, other: bool) -> None:
    """Raise ``UsageError`` for options that do not go with ``--privacy``, or need it."""
    if privacy and other:
        raise UsageError("--privacy: cannot be combined with --watch or --sampled")
    for option, value in (("--delta", delta), ("--state", state)):
        if value is not None and not privacy:
            raise UsageError(f"{option}: belongs to --privacy")
