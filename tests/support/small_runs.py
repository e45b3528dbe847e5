"""Small runs that train for real, in whole rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import encode
from fedcli.models.weights import initial_tensors
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import train_client
from support.networks import pictures

THREE = ("0", "1", "2")
SMALL = TrainPlan(epochs=2, batch_size=16, lr=0.05)


def small_run(
    root: Path,
    plan: Plan | None = None,
    *,
    clients: tuple[str, ...] = THREE,
    count: int = 40,
    model: str = "linear",
) -> Run:
    """A run whose clients have ``count`` pictures each, of two classes."""
    info = RunInfo(
        dataset=DatasetInfo("handmade", ("a", "b"), (3, 8, 8)),
        model=ModelInfo(model),
        seed=0,
        clients=clients,
        plan=plan or Plan(SMALL),
        origin={},
    )
    run = Run.create(root, info)
    own = model if ":" in model else None
    start = initial_tensors(info.model, 2, (3, 8, 8), 0, own_factory=own)
    described = Metadata(Kind.GLOBAL, run.id, round=0, roles=start.roles, seed=0)
    save(run.round(0).global_model, start.tensors, described)
    x, y = (values.numpy() for values in pictures(count * len(clients)))
    for number, client in enumerate(clients):
        mine = slice(number * count, (number + 1) * count)
        values = {"x": x[mine], "y": y[mine]}
        described = Metadata(Kind.SHARD, run.id, client=client, num_examples=count)
        save(run.client_shard(client), values, described)
    return run


def play(
    run: Run,
    rounds: int,
    training: dict[str, Any],
    aggregation: dict[str, Any],
    *,
    clients: Sequence[str] = ("all",),
    exclude: Sequence[str] = (),
    state: Path | None = None,
) -> None:
    """Train the clients and aggregate, round after round, from where the run stands."""
    for _ in range(rounds):
        execution = Execution(threads=1, state=state)
        train_client(run, clients, options=training, execution=execution)
        taking_part = len(run.choose_clients(clients)) - len(exclude)
        aggregate(run, options=aggregation, exclude=exclude, min_clients=taking_part)


def contents(path: Path) -> tuple[dict[str, Any], Metadata]:
    """What is in a checkpoint, and what it says of itself."""
    with Checkpoint(path) as checkpoint:
        return checkpoint.tensors(), checkpoint.metadata


def facts(run: Run, number: int, client: str) -> dict[str, Any]:
    """What an update says of its training."""
    return encode(contents(run.round(number).update(client))[1].training)


def of_slot(tensors: dict[str, Any], name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a slot of a state, by their names in the model."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
