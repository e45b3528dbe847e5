"""A membership-inference audit of what ``train-client`` writes, by a reader of the directory.

Every pixel of a picture has a canary: an example that is dark but for this pixel. A fair coin
decides for each whether the client has it. The reader knows the canaries and their labels, and sees
from the update how far the weights of each pixel moved.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.audit import proved_by_one_run, right_guesses
from support.private import needs_dp_accounting
from support.small_runs import contents
from support.thorough import times

from fedcli.formats.checkpoint import save
from fedcli.formats.ledger import PrivacyEvent
from fedcli.formats.metadata import Kind, Metadata
from fedcli.models.weights import initial_tensors
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.privacy import epsilon_at
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.steps.train_client import train_client

SIDE, DELTA = 64, 1e-6
CANARIES, GUESSES = SIDE * SIDE, 1000
PLAN = TrainPlan(steps=1, batch_size=CANARIES, lr=0.1, momentum=0.0)
PRIVATE: dict[str, Any] = {"dp": "example", "clip": 1.0}
ALL = {**PRIVATE, "steps": 4}
SAMPLES = {**PRIVATE, "steps": 40, "batch_size": 256}


@dataclass(frozen=True)
class Canaries:
    """Which canaries there are, and which of them the client has."""

    members: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @classmethod
    def drawn(cls, seed: int) -> "Canaries":
        rng = np.random.default_rng(seed)
        return cls(rng.random(CANARIES) < 0.5, rng.integers(0, 2, CANARIES))

    def shard(self) -> dict[str, NDArray[Any]]:
        x = 255 * np.eye(CANARIES, dtype=np.uint8).reshape(CANARIES, 1, SIDE, SIDE)
        return {"x": x[self.members], "y": self.labels[self.members]}

    def run(self, root: Path) -> Run:
        dataset = DatasetInfo("canaries", ("a", "b"), (1, SIDE, SIDE), mean=(0.0,), std=(0.01,))
        info = RunInfo(dataset, ModelInfo("linear"), 0, ("0",), Plan(PLAN), {})
        run = Run.create(root, info)
        start = initial_tensors(info.model, 2, dataset.shape, 0, own_factory=None)
        told = Metadata(Kind.GLOBAL, run.id, round=0, roles=start.roles, seed=0)
        save(run.round(0).global_model, start.tensors, told)
        told = Metadata(Kind.SHARD, run.id, client="0", num_examples=int(self.members.sum()))
        save(run.client_shard("0"), self.shard(), told)
        return run

    def scores(self, run: Run) -> NDArray[np.float64]:
        """How far the weights of each pixel moved towards the label of its canary."""
        before, after = (
            contents(path)[0]["fc.weight"]
            for path in (run.round(0).global_model, run.round(1).update("0"))
        )
        moved = after.astype(np.float64) - before
        pixels = np.arange(CANARIES)
        found: NDArray[np.float64] = moved[self.labels, pixels] - moved[1 - self.labels, pixels]
        return found


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries.drawn(seed=0)


@pytest.fixture(scope="module")
def made(canaries: Canaries, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return canaries.run(tmp_path_factory.mktemp("audit") / "fedrun")


def _key(folder: Path, seed: int) -> Path:
    secret = np.random.default_rng(seed).bytes(32)
    path = folder / f"{seed}.key"
    path.write_text(f"noise:{base64.b64encode(secret).decode()}\n")
    path.chmod(0o600)
    return path


def attacked(canaries: Canaries, run: Run, options: dict[str, Any], key: Path | None) -> int:
    """How many guesses are right about a training with these options."""
    execution = Execution(threads=1)
    train_client(run, ["0"], options=options, noise_key=key, execution=execution, force=True)
    return right_guesses(canaries.scores(run), canaries.members, GUESSES)


def spent(run: Run) -> PrivacyEvent:
    """What the update itself says that it spent."""
    event = contents(run.round(1).update("0"))[1].training.privacy
    assert event is not None
    return event


def proved(right: int) -> float:
    return proved_by_one_run(right, GUESSES, CANARIES, DELTA)


def test_plain_training_shows_whom_the_client_has(canaries: Canaries, made: Run) -> None:
    assert attacked(canaries, made, {}, None) == GUESSES
    assert proved(GUESSES) > 4.5


@needs_dp_accounting
@pytest.mark.parametrize(
    ("options", "sigma"), [(ALL, 2.5), (SAMPLES, 1.5)], ids=["all of them", "samples"]
)
def test_private_training_shows_no_more_than_it_says(
    options: dict[str, Any], sigma: float, canaries: Canaries, made: Run, tmp_path: Path
) -> None:
    for seed in range(times(20, 2)):
        key = _key(tmp_path, seed)
        right = attacked(canaries, made, {**options, "noise_multiplier": sigma}, key)
        allowed = epsilon_at([spent(made)], DELTA)
        assert 0.1 * allowed < proved(right) <= allowed  # the attack is no weak one
        right = attacked(canaries, made, {**options, "noise_multiplier": 0.0}, key)
        assert proved(right) > allowed


def test_guesses_by_chance_prove_nothing() -> None:
    assert proved(GUESSES // 2) == 0
    assert proved(GUESSES // 2 + 80) > 0
    assert proved_by_one_run(GUESSES, GUESSES, CANARIES, 1e-3) == 0  # δ alone may explain them
