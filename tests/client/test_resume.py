"""An interrupted client goes on where it was kept, and delivers the bytes of one that was not."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import assignment, trained
from support.runs import python
from support.small_runs import small_run
from torch import nn

from fedcli.client.local_training import Assignment, Trained
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.train_client import ClientResult, train_client
from fedcli.storage.atomic import canonical_json
from fedcli.training.loop import Epoch, Stage, Trainer

PLAN = TrainPlan(epochs=3, batch_size=16, lr=0.05, precision="fp32")
CHANGES: dict[str, dict[str, Any]] = {
    "momentum": {},
    "adam": {"optimizer": "adam", "lr": 1e-3},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1},
    "augmented": {"augment": ("flip", "crop", "cutout"), "mixup": 0.3},
    "steps": {"steps": 8},
    "clipped": {"clip_grad": 0.1},
    "scaffold": {"algorithm": "scaffold"},
    "scaffold, option 1": {"algorithm": "scaffold", "scaffold_option": 1, "initial_loss": True},
    "feddyn": {"algorithm": "feddyn"},
    "moon": {"algorithm": "moon"},
    "ditto": {"algorithm": "ditto"},
    "fedrep": {"local_layers": ("6",), "head_epochs": 2},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16", "lr": 1e-3},
}


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(144, 8),
            nn.Linear(8, 2),
        )


def _given(plan: TrainPlan, **others: Any) -> Assignment:
    local = frozenset({"6.weight", "6.bias"}) if plan.local_layers else frozenset()
    return assignment(plan, network(), local=local, **others)


def assert_same(a: Trained, b: Trained) -> None:
    for mine, other in ((a.sent, b.sent), (a.kept, b.kept)):
        assert mine.keys() == other.keys()
        for name in mine:
            assert mine[name].tobytes() == other[name].tobytes(), name
    for x, y in zip([*a.epochs, *a.personal_epochs], [*b.epochs, *b.personal_epochs], strict=True):
        assert replace(x, seconds=1) == replace(y, seconds=1)
    assert a.initial_loss == b.initial_loss


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_from_the_end_of_any_epoch_the_bytes_are_the_same(changes: dict[str, Any]) -> None:
    plan = PLAN.with_options(changes)
    states = []

    def keep(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
        tensors, facts = trainer.state()
        states.append((tensors, canonical_json(facts)))

    whole = trained(_given(plan), keep)
    assert len(states) == len(whole.epochs) + len(whole.personal_epochs)
    for tensors, facts in states:
        # what was kept is read from a file: nothing of it may be shared with the training
        copies = {name: value.clone() for name, value in tensors.items()}
        resumed = trained(_given(plan, resume=(tensors, json.loads(facts), Path("kept"))))
        assert_same(whole, resumed)
        assert all(torch.equal(value, copies[name]) for name, value in tensors.items())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan(train=replace(PLAN, epochs=4, augment=("flip",)))
    root = tmp_path_factory.mktemp("runs") / "fedrun"
    return small_run(root, plan, clients=("0", "1"), model="cnn").root


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Run:
    shutil.copytree(template, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


class Interrupting:
    """Progress that is interrupted when a line is said for the n-th time."""

    def __init__(self, after: int | None) -> None:
        self.after = after
        self.lines: list[str] = []

    def start(self, label: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)
        if sum("epoch" in line for line in self.lines) == self.after:
            raise KeyboardInterrupt


def train(
    run: Run, after: int | None, *, every: int | None = 1, options: Any = None, **others: Any
) -> tuple[list[str], list[ClientResult]]:
    progress = Interrupting(after)
    execution = Execution(threads=1, checkpoint_every=every, state=others.pop("state", None))
    results: list[ClientResult] = []
    try:
        result = train_client(
            run, ["0"], execution=execution, options=options, progress=progress, **others
        )
        results += result.clients
    except KeyboardInterrupt:
        assert after is not None
    return progress.lines, results


def update_of(run: Run) -> bytes:
    return run.round(1).update("0").read_bytes()


@pytest.fixture(scope="session")
def uninterrupted(template: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("whole") / "fedrun"
    shutil.copytree(template, root)
    train(Run.open(root), None, every=None)
    return update_of(Run.open(root))


def test_the_same_command_goes_on(run: Run, uninterrupted: bytes) -> None:
    training_checkpoint = run.round(1).training_checkpoint("0")
    train(run, 3)
    assert training_checkpoint.exists()
    assert not run.round(1).update("0").exists()
    # to take it up no option is needed
    lines, (result,) = train(run, None, every=None)
    assert lines[0] == "client 0: resuming after 3 epochs"
    assert [line for line in lines if "epoch 4/4" in line]
    assert not [line for line in lines if "epoch 3/4" in line]
    assert len(result.epochs) == 4
    assert update_of(run) == uninterrupted
    assert not training_checkpoint.parent.exists()


def test_every_second_epoch(run: Run, uninterrupted: bytes) -> None:
    train(run, 1, every=2)
    assert not run.round(1).training_checkpoint("0").exists()
    train(run, 3, every=2)
    lines, _ = train(run, None)
    assert "after 2 epochs" in lines[0]
    assert update_of(run) == uninterrupted


def test_of_other_inputs_it_is_not_used(run: Run, uninterrupted: bytes) -> None:
    train(run, 2, options={"lr": 0.01})
    lines, _ = train(run, None)
    assert lines[0] == "client 0: starting over; the training checkpoint was made from other inputs"
    assert update_of(run) == uninterrupted
    assert not run.round(1).training_checkpoint("0").exists()


def test_force_begins_anew(run: Run, uninterrupted: bytes) -> None:
    train(run, 2)
    lines, _ = train(run, None, force=True)
    assert "epoch 1/4" in lines[0]
    assert update_of(run) == uninterrupted


@pytest.mark.parametrize("size", [0, 7, -9])
def test_a_broken_one_is_named_and_not_used(run: Run, uninterrupted: bytes, size: int) -> None:
    train(run, 2)
    training_checkpoint = run.round(1).training_checkpoint("0")
    training_checkpoint.write_bytes(training_checkpoint.read_bytes()[:size])
    lines, _ = train(run, None)
    assert "client 0: starting over; the training checkpoint is broken" in lines[0]
    assert update_of(run) == uninterrupted
    assert not training_checkpoint.exists()


def test_a_folder_of_the_clients_own_holds_it(run: Run, tmp_path: Path) -> None:
    """What is kept holds layers and models that are not to leave the client."""
    own = tmp_path / "own"
    options = {"algorithm": "ditto"}
    before = set(run.root.rglob("*"))
    train(run, 2, options=options, state=own)
    assert not [p for p in set(run.root.rglob("*")) - before if p.suffix == ".safetensors"]
    lines, _ = train(run, None, options=options, state=own)
    assert "resuming after 2 epochs" in lines[0]
    (state,) = own.rglob("*.safetensors")
    assert state.name == "0.safetensors"
    assert state.parent.name == "0001"


def test_a_killed_process_has_left_what_the_next_one_needs(run: Run, uninterrupted: bytes) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from fedcli.run import Run
from fedcli.plan.execution import Execution
from fedcli.steps.train_client import train_client

class Killing:
    def start(self, label, total): pass
    def advance(self, count=1): pass
    def say(self, line):
        if "epoch 2/4" in line:
            os.kill(os.getpid(), signal.SIGKILL)

execution = Execution(threads=1, checkpoint_every=1)
train_client(Run.open(Path(sys.argv[1])), ["0"], execution=execution, progress=Killing())
"""
    assert python(code, run.root).status == -signal.SIGKILL
    lines, _ = train(run, None)
    assert "resuming after 2 epochs" in lines[0]
    assert update_of(run) == uninterrupted
    assert not (run.round(1).path / "training" / "0.safetensors").exists()


def test_what_is_kept_opens_with_any_reader_of_safetensors(run: Run) -> None:
    from safetensors.numpy import load_file

    train(run, 1)
    found = load_file(run.round(1).training_checkpoint("0"))
    assert np.isfinite(found["module0/conv1.weight"]).all()
    assert found["optimizer/momentum/000000"].shape == found["module0/conv1.weight"].shape
