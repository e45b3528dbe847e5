"""``fedcli train-client``."""

from typing import Annotated

import typer

from fedcli.cli.options.execution import ExecutionOptions
from fedcli.cli.options.shared import (
    ForceOption,
    KeyOption,
    MachineOptions,
    OutputOptions,
    RoundOption,
    RunOption,
    SeedOption,
)
from fedcli.cli.options.training import TrainingOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.run import DEFAULT_RUN, Run


def train_client(
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Who trains: 2, 0,3,5, 0-9, all, or a name.", metavar="IDS"),
    ] = None,
    run: RunOption = DEFAULT_RUN,
    round_: RoundOption = None,
    list_algorithms: Annotated[
        bool,
        typer.Option("--list", help="Print every local algorithm with its options and its paper."),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="The client's own folder of pictures or npz file; nothing of it is copied.",
            metavar="PATH",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Decode --data batch by batch, where it is too large to be held in memory.",
        ),
    ] = False,
    num_workers: Annotated[
        int | None,
        typer.Option(
            "--num-workers",
            min=0,
            help="Processes that decode for --stream; by default up to 4, one a core.",
            metavar="N",
        ),
    ] = None,
    training: TrainingOptions = TrainingOptions(),
    machine: MachineOptions = MachineOptions(),
    execution: ExecutionOptions = ExecutionOptions(),
    seed: SeedOption = None,
    key: KeyOption = None,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Train one client, or several one after another, on their own data for the open round."""
    with Output("train-client", printing) as output:
        if list_algorithms:
            from fedcli.cli.render.choices import algorithms, show

            show(algorithms(), output)
            return
        if not ids:
            raise UsageError("--id: say who trains: an id, a list (0,3), a range (0-9), or all")
        opened = Run.open(run)  # before torch is imported: most mistakes are found here
        from fedcli.cli.render.train_client import render
        from fedcli.steps.train_client import Execution
        from fedcli.steps.train_client import train_client as step
        from fedcli.training.devices import keep_heap

        keep_heap()
        result = step(
            opened,
            ids,
            round_number=round_,
            data=data,
            options=training.given(),
            execution=Execution(
                machine.device,
                machine.threads,
                **execution.given(),
                stream=stream,
                num_workers=num_workers,
            ),
            seed=seed,
            own_model=machine.model,
            key=key,
            force=force,
            progress=output,
        )
        output.result(result, lambda result: render(result, opened))
