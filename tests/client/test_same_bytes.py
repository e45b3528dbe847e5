"""One update, whoever trains it: alone, among others, under ``run``, or after an interruption."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import fedcli

from fedcli.errors import UsageError
from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.models.weights import initial_tensors
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.steps.train_client import train_client

SHAPE = (3, 12, 12)
PLANS = {
    "augmented": TrainPlan(epochs=2, batch_size=16, augment=("flip", "crop"), mixup=0.2),
    "scaffold": TrainPlan(epochs=2, batch_size=16, algorithm="scaffold", augment=("flip",)),
    "encoded": TrainPlan(epochs=2, batch_size=16, encode="round=0.05", feedback=0.5),
}


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make_run(root: Path, plan: TrainPlan) -> Run:
    info = RunInfo(
        dataset=DatasetInfo("handmade", ("a", "b"), SHAPE),
        model=ModelInfo("cnn"),
        seed=0,
        clients=("0", "1", "2"),
        plan=Plan(plan, AggregatePlan(strategy=plan.local.strategy)),
        origin={},
    )
    run = Run.create(root, info)
    model = initial_tensors(info.model, 2, SHAPE, 0)
    described = Metadata(Kind.GLOBAL, run.id, round=0, roles=model.roles, seed=0)
    save(run.round(0).global_model, model.tensors, described)
    generator = torch.Generator().manual_seed(0)
    for client in info.clients:
        x = torch.randint(0, 256, (30, *SHAPE), dtype=torch.uint8, generator=generator)
        y = torch.randint(0, 2, (30,), generator=generator)
        values = {"x": x.numpy(), "y": y.numpy()}
        save(run.client_shard(client), values, Metadata(Kind.SHARD, run.id, client=client))
    return run


def copy_before(run: Run, number: int, to: Path) -> Run:
    """Copy a run as it was when round ``number`` was opened."""
    shutil.copytree(run.root, to, ignore=shutil.ignore_patterns(f"{number:04d}"))
    return Run.open(to)


def train(run: Run, *clients: str, **options: Any) -> None:
    train_client(run, clients, execution=Execution(**options))


class Interrupting:
    """Progress that is interrupted after the first epoch."""

    def start(self, label: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def say(self, line: str) -> None:
        if "epoch 1/2" in line:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "threads"), [("augmented", 1), ("scaffold", 2), ("encoded", 2)])
def test_same_bytes(name: str, threads: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PLANS[name])
    words = ("--rounds", 2, "--threads", threads, "--jobs", 2, "--no-evaluate", "--quiet")
    assert fedcli("run", "--run", run.root, *words, cwd=tmp_path).status == 0

    together = copy_before(run, 2, tmp_path / "together")
    train(together, *run.info.clients, threads=threads)
    alone = copy_before(run, 2, tmp_path / "alone")
    train(alone, "2", threads=threads)
    process = ("train-client", "--run", alone.root, "--id", 0, "--threads", threads)
    assert fedcli(*process, cwd=tmp_path).status == 0
    execution = Execution(threads=threads, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train_client(alone, ["1"], execution=execution, progress=Interrupting())
    assert alone.round(2).training_checkpoint("1").exists()
    train(alone, "1", threads=threads)

    for client in run.info.clients:
        for path in (run.round(2).update(client), run.round(2).client_state(client)):
            if path.exists():
                inside = path.relative_to(run.root)
                assert path.read_bytes() == (together.root / inside).read_bytes(), inside
                assert path.read_bytes() == (alone.root / inside).read_bytes(), inside
    assert run.round(2).client_state("0").exists() == (name != "augmented")


def folder_of_pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(9):
            pixels = rng.integers(0, 256, (14, 15, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_and_in_memory(workers: int, tmp_path: Path) -> None:
    folder = str(folder_of_pictures(tmp_path / "pictures"))
    updates = []
    streamed = Execution(threads=1, stream=True, num_workers=workers)
    for name, execution in (("memory", Execution(threads=1)), ("stream", streamed)):
        run = make_run(tmp_path / name, PLANS["augmented"])
        train_client(run, ["0"], data=folder, execution=execution)
        updates.append(run.round(1).update("0").read_bytes())
    assert updates[0] == updates[1]
    # and neither is an input that could make a conflict
    assert train_client(run, ["0"], data=folder).clients[0].already_done


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(stream=True), "--stream: .* shards are decoded already"),
        (Execution(num_workers=2), "--num-workers: has no effect without --stream"),
    ],
)
def test_streaming_is_for_data_that_is_streamed(
    execution: Execution, words: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", PLANS["augmented"])
    with pytest.raises(UsageError, match=words):
        train_client(run, ["0"], execution=execution)
    assert not run.round(1).path.exists()
