"""Small runs of grey pictures that train in no time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.models.weights import initial_tensors
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo

CLASSES = ("dark", "bright", "loud")
Cli = Callable[..., tuple[int, str, str]]


def examples(seed: int, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Grey pictures that tell their class by how bright and how noisy they are."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    base = np.array([40, 200, 120])[y].reshape(-1, 1, 1, 1)
    noise = np.where(y == 2, 100, 20).reshape(-1, 1, 1, 1) * rng.uniform(-1, 1, (count, 1, 6, 6))
    return {"x": (base + noise).clip(0, 255).astype(np.uint8), "y": y.astype(np.int64)}


def write_shard(path: Path, run: Run, values: dict[str, Any], client: str | None = None) -> None:
    """Write examples as a shard of a run."""
    save(path, values, Metadata(Kind.SHARD, run.id, client=client, num_examples=len(values["y"])))


def grey_run(root: Path) -> Run:
    """A run of three clients with grey pictures of three classes, all of it small."""
    info = RunInfo(
        dataset=DatasetInfo("handmade", CLASSES, (1, 6, 6)),
        model=ModelInfo("linear"),
        seed=7,
        clients=("0", "1", "2"),
        plan=Plan(),
        origin={},
    )
    run = Run.create(root, info)
    model = initial_tensors(info.model, 3, (1, 6, 6), info.seed)
    save(run.round(0).global_model, model.tensors, Metadata(Kind.GLOBAL, run.id, round=0, seed=7))
    for client in info.clients:
        shard = examples(int(client), 40 + int(client))
        write_shard(run.client_shard(client), run, shard, client)
        write_shard(run.validation_shard(client), run, examples(50 + int(client), 20), client)
    write_shard(run.test_shard, run, examples(99, 60))
    return run
