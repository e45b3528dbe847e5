"""``fedcli train-client``."""

from typing import Annotated, Any

import typer
from rich.console import RenderableType

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
from fedcli.cli.render.output import Output, figures_table, seconds, size_of
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
        output.result(result, lambda result: _render(result, _advice(opened, result)))


def _advice(run: Run, result: Any) -> str:
    from fedcli.run.late_updates import late_advice
    from fedcli.steps.status import status

    late = [client.client for client in result.clients if client.late]
    return late_advice(run, result.round, late) if late else f"next: {status(run).next}"


def _render(result: Any, advice: str) -> list[RenderableType]:
    table = figures_table(
        ["client"], ["examples", "loss", "acc. (%)", "images/s", "time", "update"]
    )
    for client in result.clients:
        if client.already_done:
            figures = ["", "", "", "before"]
        else:
            last = client.epochs[-1]
            figures = [
                f"{last.loss:.4f}",
                f"{100 * last.accuracy:.1f}",
                f"{client.images_per_second:.0f}",
                seconds(client.seconds),
            ]
        size = size_of(client.bytes)
        table.add_row(client.client, str(client.num_examples), *figures, size)
    heading = f"round {result.round}, on {result.device} with {result.training['threads']} threads"
    return [heading, table, advice]
