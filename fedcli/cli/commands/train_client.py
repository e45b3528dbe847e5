"""``fedcli train-client``."""

import shlex
from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import one_a_time
from fedcli.cli.options.sections import ExecutionOptions, ReadingOptions, TrainingOptions
from fedcli.cli.options.shared import (
    FORCE,
    KEY,
    NOISE_KEY,
    OWN_MODEL,
    ROUND,
    RUN,
    SEED,
    OutputOptions,
)
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE, Given
from fedcli.run import Run


@shown(
    "--id --data --epochs --lr --batch-size --device --run",
    "fedcli train-client --id all",
    "fedcli train-client --id st-mary --data photos --run copy",
)
def train_client(
    ids: list[str] | None = typer.Option(
        None, "--id", help="Who trains: 2, 0,3,5, 0-9, all, or a name.", metavar="IDS"
    ),
    run: Path = RUN,
    round_: int | None = ROUND,
    list_algorithms: bool = typer.Option(
        False, "--list", help="Print every local algorithm with its options and its paper."
    ),
    data: str | None = typer.Option(
        None,
        "--data",
        help="The client's own folder of pictures or npz file; none of it is copied.",
        metavar="PATH",
    ),
    reading: ReadingOptions = NONE,
    training: TrainingOptions = NONE,
    execution: ExecutionOptions = NONE,
    own_model: str | None = OWN_MODEL,
    seed: int | None = SEED,
    key: Path | None = KEY,
    noise_key: Path | None = NOISE_KEY,
    force: bool = FORCE,
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
        from fedcli.plan.execution import Execution
        from fedcli.steps.train_client import train_client as step
        from fedcli.training.devices import keep_heap

        keep_heap()
        result = step(
            opened,
            one_a_time(ids),
            round_number=round_,
            data=data,
            reading=reading,
            options=training,
            execution=Execution(**execution),
            seed=seed,
            own_model=own_model,
            key=key,
            noise_key=noise_key,
            force=force,
            progress=output,
        )
        more = {**training, "seed": seed, **execution, "noise_key": noise_key}
        again = _again(opened, ids, data, more, own_model, key)
        output.result(result, lambda result: render(result, opened, again))


def _again(
    run: Run,
    ids: list[str],
    data: str | None,
    options: Given,
    own_model: str | None,
    key: Path | None,
) -> str:
    """Return the same command for the next round."""
    from fedcli.plan.sections import option_words

    given = {"id": tuple(ids), "data": data, **options, "model": own_model, "key": key}
    return run.command(shlex.join(["train-client", *option_words(given)]))
