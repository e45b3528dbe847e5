"""``run --fan-out``: a tree of partial means makes the model of all updates at once."""

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import new_run
from support.runs import deliver, fedcli, run_info
from support.small_runs import small_run

from fedcli.errors import ClientFailedError, UsageError
from fedcli.execution.step_arguments import StepOptions
from fedcli.execution.tree import Tree, check_tree
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.gc import gc
from fedcli.steps.partial import partial
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")
NINE = tuple("012345678")


class Here:
    """Stands in for the steps: does what ``aggregate --partial`` does, and remembers it."""

    is_here = True

    def __init__(self, run: Run, fails: str = "") -> None:
        self._run, self._fails = run, fails
        self.groups: list[list[str]] = []

    def submit(self, command: str, *words: str, **_: object) -> Future[dict[str, Any]]:
        members = list(words[: words.index("--partial")])
        self.groups.append(members)
        future: Future[dict[str, Any]] = Future()
        if self._fails in members:
            future.set_exception(ClientFailedError("ended by SIGKILL"))
        else:
            partial(self._run, members, Path(words[words.index("--output") + 1]), force=True)
            future.set_result({})
        return future

    def stop(self) -> None:
        pass


def whole_numbers(root: Path) -> Run:
    """Nine updates of whole numbers, whose sums are exact in any order."""
    run = new_run(root, {"w": np.zeros(50, np.float32)}, NINE, {})
    rng = np.random.default_rng(0)
    for client in NINE:
        values = rng.integers(-1000, 1000, 50).astype(np.float32)
        deliver(run, client, {"w": values}, roles={}, num_examples=8)
    return run


def root_of(run: Run, fan_out: int, steps: Any) -> list[str]:
    return Tree(run, steps, StepOptions(), fan_out, 2).root(1, NINE)


@pytest.mark.parametrize(("fan_out", "groups"), [(8, 2), (3, 3), (2, 5 + 3 + 2)])
def test_a_tree_of_any_width_has_the_bytes_of_the_flat_mean(
    tmp_path: Path, fan_out: int, groups: int
) -> None:
    run = whole_numbers(tmp_path / "run")
    flat = Run.open(shutil.copytree(run.root, tmp_path / "flat"))
    steps = Here(run)
    members = root_of(run, fan_out, steps)
    assert len(members) <= fan_out
    assert len(steps.groups) == groups
    assert max(map(len, steps.groups)) <= fan_out
    tree = aggregate(run, members=members)
    with Checkpoint(tree.path) as one, Checkpoint(aggregate(flat).path) as other:
        assert one.tensor("w").tobytes() == other.tensor("w").tobytes()
        assert one.metadata.num_examples == other.metadata.num_examples == 72
    found = verify(run.root, replay=UserCode())
    assert found.sound, found.findings


def test_a_group_that_fails_ends_the_round(tmp_path: Path) -> None:
    run = whole_numbers(tmp_path)
    with pytest.raises(ClientFailedError):
        root_of(run, 3, Here(run, fails="4"))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"strategy": "median"}, "median with uniform weighting does not add up"),
        ({"strategy": "krum"}, "does not add up"),
        ({"strategy": "fednova"}, "does not add up"),
        ({"max_norm": 3.0}, "--max-norm needs the step of every client"),
    ],
)
def test_what_has_no_tree_is_refused(tmp_path: Path, plan: dict[str, Any], words: str) -> None:
    run = Run.create(tmp_path, run_info())
    options = StepOptions(aggregation=plan, fan_out=2)
    rule = resolve(AggregatePlan(**plan))
    with pytest.raises(UsageError, match=f"--fan-out: .*{words}"):
        check_tree(run, rule, options)


def test_a_run_by_trees(tmp_path: Path) -> None:
    """Whole rounds by the command: the same clients, nothing left by ``gc``, and sound."""
    run = small_run(tmp_path / "fedrun", clients=("0", "1", "2", "3", "4"), count=6)
    words = ("run", "--run", run.root, "--no-evaluate", "--fan-out", 2)
    done = fedcli(*words, "--rounds", 2, cwd=tmp_path)
    assert done.status == 0, done.err
    manifest = Manifest.read(run.round(2).manifest)
    assert manifest is not None
    assert sum(entry.clients for entry in manifest.partials) == 5
    assert len(manifest.partials) == 2
    assert manifest.accepted == ()
    assert verify(run.root).sound
    assert fedcli(*words, "--rounds", 2, cwd=tmp_path).status == 0  # nothing is left to do
    gc(run, 1)
    assert not list((run.round(1).path / "partials").glob("*"))
    assert len(list((run.round(2).path / "partials").glob("*"))) == 5
    assert verify(run.root).sound
    refused = fedcli(*words, "--rounds", 3, "--strategy", "median", cwd=tmp_path)
    assert refused.status == 2
    assert "--fan-out: median" in refused.err
