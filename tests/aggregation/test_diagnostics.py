"""What the manifest tells of each update: norm, cosine, distance to the median, kept or not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import (
    ALL_ROLES,
    SEVEN,
    TRAINING,
    Tensors,
    deliver_all,
    engine,
    loaded,
    new_run,
    planned,
    server,
)
from support.runs import deliver, fedcli, tensors

from fedcli.aggregation import commit, reduce
from fedcli.aggregation.blocks import Again
from fedcli.aggregation.reduce import Work
from fedcli.formats.manifest import Manifest
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("unsynced")


def flat(model: Tensors) -> Any:
    """The parameters as one vector; buffers and counters are not part of it."""
    names = sorted(name for name in model if name not in ALL_ROLES)
    return np.concatenate([model[name].astype(np.float64).ravel() for name in names])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two clients have sent a sign-flipped and a huge update."""
    run = new_run(tmp_path, tensors(0), SEVEN)
    for client in SEVEN:
        deliver(run, client, sent(client), training=TRAINING)
    return run


def sent(client: str) -> Tensors:
    start, other = tensors(0), tensors(1 + int(client))
    scale = {"5": -1.0, "6": 1000.0}.get(client, 0.1)
    return {
        name: np.asarray(start[name] + scale * (0.5 + other[name]), start[name].dtype)
        for name in start
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_to_whole_vectors_in_float64(run: Run, strategy: str) -> None:
    result = engine(run, strategy)
    start = flat(tensors(0))
    deltas = np.stack([flat(sent(client)) - start for client in SEVEN])
    step = flat(loaded(result.path)) - start
    apart = np.linalg.norm(deltas - np.median(deltas, axis=0), axis=1)
    cosines = deltas @ step / np.linalg.norm(deltas, axis=1) / np.linalg.norm(step)
    assert [c.norm for c in result.clients] == pytest.approx(
        np.linalg.norm(deltas, axis=1), rel=1e-5
    )
    assert [c.distance for c in result.clients] == pytest.approx(apart, rel=1e-5)
    assert [c.cosine for c in result.clients] == pytest.approx(cosines, rel=1e-5, abs=1e-5)
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.accepted == result.clients


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_figures_do_not_depend_on_how_blocks_are_read_again(
    run: Run, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory, from the file in the same pass, or in a second pass over a written model."""
    found = []
    for again in (Again.FROM_MEMORY, Again.FROM_FILE, Again.NEVER):
        for module in (commit, reduce):
            monkeypatch.setattr(module, "again_for", lambda _, again=again: again)
        found.append(server_forced(run, strategy))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("strategy", "again"), [("fedavg", Again.FROM_FILE), ("median", Again.NEVER)]
)
def test_many_updates_are_read_again_from_files_that_stay_open(
    run: Run, strategy: str, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that holds a block of all of them has small ones, and compares in a second pass."""
    monkeypatch.setattr(reduce, "_MOST_KEPT_BYTES", 0)
    chosen, found = reduce.again_for, []

    def seen(work: Work) -> Again:
        found.append(chosen(work))
        work.updates[0].values.keep_open = False
        assert chosen(work) == Again.NEVER
        work.updates[0].values.keep_open = True
        return found[-1]

    monkeypatch.setattr(commit, "again_for", seen)
    assert all(client.cosine is not None for client in engine(run, strategy).clients)
    assert found == [again]


@pytest.mark.parametrize(
    ("strategy", "passes"), [("fedavg", 1), ("median", 1), ("fedadam", 1), ("krum", 1.3)]
)
def test_figures_need_no_pass_of_their_own(
    run: Run, strategy: str, passes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Krum reads the chosen update again; inner products tell the rest."""
    read, found = UpdateTensors.read_into, Counter[Path]()

    def counted(update: UpdateTensors, buffer: memoryview, offset: int) -> None:
        found[update.path] += len(buffer)
        read(update, buffer, offset)

    monkeypatch.setattr(UpdateTensors, "read_into", counted)
    assert all(client.cosine is not None for client in engine(run, strategy).clients)
    assert len(found) == len(SEVEN)
    assert found.total() < passes * sum(path.stat().st_size for path in found)


def test_kept_tells_whom_the_rule_used(run: Run) -> None:
    for strategy, kept in (("krum", 1), ("multi-krum", 4), ("bulyan", 5), ("fedavg", 7)):
        result = server_forced(run, strategy)
        used = [c.client for c in result if c.kept]
        assert len(used) == kept
        assert all((c.weight > 0) == c.kept for c in result)
        if kept < 6:
            assert "6" not in used
    assert sum(c.weight for c in result) == pytest.approx(1)


def server_forced(run: Run, strategy: str) -> Any:
    run.round(1).global_model.unlink(missing_ok=True)
    return engine(run, strategy).clients


def test_a_client_that_changed_nothing_has_no_direction(tmp_path: Path) -> None:
    run = new_run(tmp_path, tensors(0), ("0", "1", "2"))
    for client, values in (("0", tensors(0)), ("1", sent("1")), ("2", sent("2"))):
        deliver(run, client, values)
    first, *others = aggregate(run).clients
    assert (first.norm, first.cosine) == (0, None)
    assert all(other.cosine is not None for other in others)


def test_a_late_update_is_measured_from_its_own_base(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    server(run, "fedbuff", buffer=2)
    deliver_all(run, "2")
    deliver_all(run, "0", 2)
    _, late = server(run, "fedbuff", buffer=2).clients
    assert late.round == 1
    expected = np.linalg.norm(flat(tensors(12)) - flat(tensors(0)))
    assert late.norm == pytest.approx(expected, rel=1e-5)


def test_without_diagnostics_nothing_is_measured_and_the_model_is_the_same(run: Run) -> None:
    measured = aggregate(run)
    run.round(1).global_model.unlink()
    done = fedcli("aggregate", "--no-diagnostics", "--json", "--run", run.root, cwd=run.root)
    assert (done.status, done.err) == (0, "")
    assert done.json["sha256"] == measured.sha256
    manifest = json.loads(run.round(1).manifest.read_text())
    for entry in (*done.json["clients"], *manifest["accepted"]):
        assert (entry["norm"], entry["cosine"], entry["distance"]) == (None, None, None)
        assert entry["kept"] is True
