"""``fedcli run``."""

from pathlib import Path

import typer

from fedcli.cli import streams
from fedcli.cli.options.parsing import parse_jobs
from fedcli.cli.options.sections import AggregationOptions, PassedOnOptions, TrainingOptions
from fedcli.cli.options.shared import EXCLUDE, MIN_CLIENTS, OWN_MODEL, RUN, SEED, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE
from fedcli.plan.stopping import Stopping
from fedcli.run import Run


def run(
    rounds: int = typer.Option(
        ..., "--rounds", min=1, help="Continue until round N is complete.", metavar="N"
    ),
    run: Path = RUN,
    jobs: str = typer.Option(
        "auto",
        "--jobs",
        "-j",
        help="Clients at a time; auto suits the cores, or the GPU's memory.",
        metavar="N|auto",
    ),
    evaluate: bool = typer.Option(
        True, "--evaluate/--no-evaluate", help="Score every round's global model."
    ),
    keep_updates: int | None = typer.Option(
        None,
        "--keep-updates",
        min=1,
        help="After each round, remove updates and states of rounds before the last N, as gc"
        " does. (default: all are kept)",
        metavar="N",
    ),
    stopping: Stopping = Stopping(),
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    min_clients: int | None = MIN_CLIENTS,
    exclude: list[str] | None = EXCLUDE,
    execution: PassedOnOptions = NONE,
    own_model: str | None = OWN_MODEL,
    seed: int | None = SEED,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Run many rounds with one command, from where the run stands, by launching the same steps."""
    from fedcli.cli.render.run import render
    from fedcli.execution.step_arguments import StepOptions
    from fedcli.steps.run import run_rounds

    opened = Run.open(run)
    streams.stop_like_an_interrupt()  # which stops the steps, and keeps the rest
    with Output("run", printing) as output:
        options = StepOptions(
            training=training,
            aggregation=aggregation,
            execution=execution,
            min_clients=min_clients,
            exclude=exclude or (),
            seed=seed,
            own_model=own_model,
        )
        result = run_rounds(
            opened,
            rounds,
            options,
            jobs=parse_jobs(jobs),
            evaluate=evaluate,
            keep_updates=keep_updates,
            stopping=stopping,
            progress=output,
        )
        output.result(result, lambda result: render(result, opened.command("report")))
