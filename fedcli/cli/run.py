"""``fedcli run``."""

import signal
from typing import Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.options import (
    AugmentOption,
    BatchSizeOption,
    DebugOption,
    DeviceOption,
    EpochsOption,
    ExcludeOption,
    JsonOption,
    LrOption,
    MinClientsOption,
    MomentumOption,
    OwnModelOption,
    QuietOption,
    RunOption,
    SeedOption,
    ThreadsOption,
    WeightDecayOption,
    WeightingOption,
    augmentations,
)
from fedcli.cli.output import Output, figures_table, seconds
from fedcli.run import DEFAULT_RUN, Run
from fedcli.steps.run import Options, RunResult, run_rounds


def run(
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Go on until round N is complete.", metavar="N")
    ],
    run: RunOption = DEFAULT_RUN,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Clients at a time.", metavar="N")
    ] = 1,
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Score every round's global model.")
    ] = True,
    epochs: EpochsOption = None,
    lr: LrOption = None,
    batch_size: BatchSizeOption = None,
    momentum: MomentumOption = None,
    weight_decay: WeightDecayOption = None,
    augment: AugmentOption = None,
    weighting: WeightingOption = None,
    min_clients: MinClientsOption = None,
    exclude: ExcludeOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    model: OwnModelOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Do many rounds with one command, from where the run stands, by launching the same steps."""
    opened = Run.open(run)
    # What schedulers and closed terminals send is Ctrl-C to us: stop the steps, keep the rest.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with Output("run", json=json, quiet=quiet) as output:
        options = Options(
            training={
                "epochs": epochs,
                "lr": lr,
                "batch_size": batch_size,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "augment": augmentations(augment),
            },
            weighting=weighting,
            min_clients=min_clients,
            exclude=exclude or (),
            device=device,
            threads=threads,
            seed=seed,
            own_model=model,
        )
        result = run_rounds(opened, rounds, options, jobs=jobs, evaluate=evaluate, progress=output)
        output.result(result, lambda result: _render(result, opened.command("report")))


def _render(result: RunResult, then: str) -> list[RenderableType]:
    if not result.rounds:
        return [f"{result.rounds_complete} rounds are complete already.", f"next: {then}"]
    table = figures_table(["round"], ["clients", "test loss", "acc. (%)", "time"])
    for row in result.rounds:
        table.add_row(
            str(row.round),
            str(row.clients),
            "" if row.loss is None else f"{row.loss:.4f}",
            "" if row.accuracy is None else f"{100 * row.accuracy:.1f}",
            seconds(row.seconds),
        )
    return [table, f"next: {then}"]
