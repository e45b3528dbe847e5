"""Frozen tensors and layers that stay with the clients: neither sent nor averaged."""

import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.handmade import (
    ALL_ROLES,
    SEVEN,
    TRAINING,
    Tensors,
    bring_controls,
    copied,
    deliver_all,
    edge,
    engine,
    loaded,
    new_run,
    of_every_kind,
    planned,
    same_bits,
    server,
    snapshot,
)
from support.runs import ROLES, deliver, tensors

from fedcli.aggregation import blocks
from fedcli.aggregation import reduce as combining
from fedcli.errors import UpdateError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Role
from fedcli.formats.records import encode
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial
from fedcli.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("unsynced")

# Of every role and dtype, larger than a block and smaller, in the middle and at the ends.
AWAY = {"a.weight", "bn.running_mean", "bn.num_batches_tracked", "h.weight", "n.running_mean"}
AWAY |= {"seen", "d.weight"}
WITHHOLDING: dict[str, Any] = {
    "freeze": ["a.weight", "[hd].*", "seen"],
    "local_layers": ["bn", "n"],
}


def without(values: dict[str, Any], away: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in away}


def send(run: Run, client: str, values: Tensors, number: int = 1, **changes: Any) -> str:
    """Deliver the update of a client that withholds ``AWAY``."""
    training = {**TRAINING, **WITHHOLDING, **changes.pop("training", {})}
    roles = without(ALL_ROLES, AWAY)
    values = without(values, AWAY)
    return deliver(
        run, client, values, round_number=number, roles=roles, training=training, **changes
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path / "run", of_every_kind(0), SEVEN, ALL_ROLES)
    for client in SEVEN:
        send(run, client, of_every_kind(1 + int(client)))
    return run


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_rest_is_combined_as_if_the_model_had_nothing_else(
    tmp_path: Path, run: Run, strategy: str
) -> None:
    roles = without(ALL_ROLES, AWAY)
    small = new_run(tmp_path / "small", without(of_every_kind(0), AWAY), SEVEN, roles)
    for client in SEVEN:
        values = without(of_every_kind(1 + int(client)), AWAY)
        deliver(small, client, values, roles=roles, training=TRAINING)
    result, expected = engine(run, strategy), engine(small, strategy)
    model = loaded(result.path)
    same_bits({n: model[n] for n in model if n in AWAY}, {n: of_every_kind(0)[n] for n in AWAY})
    same_bits(without(model, AWAY), loaded(expected.path))
    for a, b in zip(result.clients, expected.clients, strict=True):
        assert (a.weight, a.kept, a.norm) == (b.weight, b.kept, b.norm)
        assert (a.cosine, a.distance) == (b.cosine, b.distance)
    with Checkpoint(result.path, Kind.GLOBAL) as checkpoint:
        assert checkpoint.metadata.roles == ALL_ROLES
    assert run.round(1).server_state.exists() == small.round(1).server_state.exists()
    if run.round(1).server_state.exists():
        same_bits(loaded(run.round(1).server_state), loaded(small.round(1).server_state))


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_tensors_but_all_parameters(data: st.DataObject) -> None:
    names = sorted(tensors(0))
    away = data.draw(st.sets(st.sampled_from(names)))
    if away >= set(names) - ROLES.keys():
        away.discard("fc.bias")
    frozen = data.draw(st.sets(st.sampled_from(sorted(away)))) if away else set()
    training = {"freeze": sorted(frozen), "local_layers": sorted(away - frozen)}
    roles = without(ROLES, away)
    with tempfile.TemporaryDirectory() as place:
        run = new_run(Path(place) / "run", tensors(0), ("0", "1", "2"))
        for client in "012":
            values = without(tensors(1 + int(client)), away)
            deliver(run, client, values, roles=roles, training=training)
        found = loaded(aggregate(run).path)
    for name, values in tensors(0).items():
        stack = np.stack([tensors(seed)[name] for seed in (1, 2, 3)])
        expected = values
        if name not in away and ROLES.get(name) == Role.COUNTER:
            expected = stack.max(axis=0)
        elif name not in away:
            mean = np.average(stack.astype(np.float64), axis=0, weights=[10, 11, 12])
            np.testing.assert_array_almost_equal_nulp(found[name], mean.astype(np.float32))
            continue
        assert found[name].tobytes() == expected.tobytes()


def test_whether_frozen_or_local_by_whatever_patterns_makes_no_difference(
    tmp_path: Path, run: Run
) -> None:
    other = copied(run, tmp_path / "other")
    names = {"freeze": [], "local_layers": sorted(AWAY)}
    for client in SEVEN[:3]:  # the others say it as before
        send(other, client, of_every_kind(1 + int(client)), training=names)
    same_bits(loaded(aggregate(run).path), loaded(aggregate(other).path))


def test_round_after_round_what_is_withheld_stays_as_it_was(run: Run) -> None:
    for number in (1, 2, 3):
        for client in SEVEN:
            send(run, client, of_every_kind(10 * number + int(client)), number)
        found = loaded(server(run, "fedadam").path)
        same_bits({n: found[n] for n in AWAY}, {n: of_every_kind(0)[n] for n in AWAY})


def test_neither_threads_nor_block_size_change_a_byte(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for cores, size in ((1, 1 << 20), (5, 8192)):
        same = copied(run, tmp_path / str(cores))
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "available_cores", lambda cores=cores: cores)
            patch.setattr(combining, "BLOCK_BYTES", size)
            engine(same, "fedyogi")
        round_ = same.round(1)
        found.add((round_.global_model.read_bytes(), round_.server_state.read_bytes()))
    assert len(found) == 1


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_updates_are_read_and_hashed_in_one_pass(
    run: Run, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_controls(run, strategy)
    files = {run.round(1).update(client).stat().st_ino for client in SEVEN}
    read, real, lock = 0, os.preadv, threading.Lock()

    def counted(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal read
        count = real(descriptor, buffers, offset)
        with lock:
            read += count if os.fstat(descriptor).st_ino in files else 0
        return count

    monkeypatch.setattr(os, "preadv", counted)
    result = aggregate(run, options={"strategy": strategy}, diagnostics=False)
    with Checkpoint(run.round(1).update("0")) as update:
        beside = [info for name, info in update.layout.items() if name in ALL_ROLES]
    # Headers are read twice, and buffers and counters first, to compare them.
    again = 7 * sum(info.stop - info.start for info in beside)
    assert result.bytes_read <= read <= 1.01 * result.bytes_read + again


# --- trees, late updates, and other rounds -------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_tree_is_the_flat_mean(tmp_path: Path, run: Run, strategy: str) -> None:
    flat = loaded(server(copied(run, tmp_path / "flat"), strategy).path)
    inner = edge(run, "inner", "2", "3")
    left, right = edge(run, "left", "0", "1", inner), edge(run, "right", "4", "5")
    with Checkpoint(Path(left), Kind.PARTIAL) as checkpoint:
        assert checkpoint.layout.keys() == of_every_kind(0).keys() - AWAY
        assert encode(checkpoint.metadata.training) == WITHHOLDING
        assert checkpoint.metadata.roles == without(ALL_ROLES, AWAY)
    assert partial(run, ["0", "1", inner], Path(left)).already_done
    tree = loaded(aggregate(run, members=[left, right, "6"], options={"strategy": strategy}).path)
    same_bits({n: tree[n] for n in AWAY}, {n: flat[n] for n in AWAY})
    for name in tree.keys() - AWAY:
        if ALL_ROLES.get(name) == Role.COUNTER:
            assert (tree[name] == flat[name]).all()
        elif tree[name].dtype != np.float16:
            np.testing.assert_allclose(tree[name], flat[name], rtol=1e-5, atol=1e-12)


def test_a_partial_mean_of_other_tensors_is_refused(run: Run) -> None:
    left = edge(run, "left", "0", "1")
    for client in SEVEN[2:]:
        whole = of_every_kind(1 + int(client))
        deliver(run, client, whole, roles=ALL_ROLES, training=TRAINING)
    with pytest.raises(UpdateError, match=r"left\.safetensors: withholds tensor 'a\.weight'"):
        aggregate(run, members=[left, *SEVEN[2:]])
    right = edge(run, "right", *SEVEN[2:])
    with pytest.raises(
        UpdateError, match=r"right\.safetensors: has tensor 'a\.weight', which .*left"
    ):
        aggregate(run, members=[left, right])


def test_late_updates_withhold_the_same(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", ("0", "1", "2"))
    away, training = {"fc.weight", "fc.bias"}, {"freeze": ["fc"]}
    clients = {"0": 1, "1": 1, "2": 1}
    for client, number in clients.items():
        values = without(tensors(1 + int(client)), away)
        if client != "2":
            deliver(run, client, values, round_number=number, training=training)
    server(run, "fedbuff", buffer=2)
    deliver(run, "2", without(tensors(3), away), training=training)
    deliver(run, "0", without(tensors(9), away), round_number=2, training=training)
    before = loaded(run.round(1).global_model)
    result = server(run, "fedbuff", buffer=2)
    found, start = loaded(result.path), tensors(0)
    assert [(c.client, c.round) for c in result.clients] == [("0", 2), ("2", 1)]
    late = (tensors(3)["conv.weight"] - start["conv.weight"].astype(float)) / np.sqrt(2)
    step = (tensors(9)["conv.weight"] - before["conv.weight"].astype(float) + late) / 2
    np.testing.assert_allclose(found["conv.weight"], before["conv.weight"] + step, rtol=1e-5)
    same_bits({n: found[n] for n in away}, {n: start[n] for n in away})


def test_a_late_update_that_withholds_something_else_is_refused(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", ("0", "1", "2"))
    deliver_all(run, "01")
    server(run, "fedbuff", buffer=2)
    deliver_all(run, "2")
    values = without(tensors(9), {"scale"})
    deliver(run, "0", values, round_number=2, training={"freeze": ["scale"]})
    with pytest.raises(UpdateError, match=r"0001/updates/2\.safetensors: has tensor 'scale'"):
        server(run, "fedbuff", buffer=2)


def test_a_parameter_that_is_sent_again_starts_its_moments_anew(tmp_path: Path) -> None:
    """The others go on. v starts from τ², as in a first round."""
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    deliver(run, "0", without(tensors(1), {"fc.weight"}), training={"freeze": ["fc.weight"]})
    server(run, "fedadam")
    before = loaded(run.round(1).global_model)
    fresh = new_run(tmp_path / "fresh", before, ("0",))
    for each, number in ((run, 2), (fresh, 1)):
        deliver(each, "0", tensors(2), round_number=number)
        server(each, "fedadam")
    states = [loaded(run.round(2).server_state), loaded(fresh.round(1).server_state)]
    for slot in ("momentum", "variance"):
        assert (states[0][f"{slot}/fc.weight"] == states[1][f"{slot}/fc.weight"]).all()
        assert (states[0][f"{slot}/conv.weight"] != states[1][f"{slot}/conv.weight"]).all()


# --- what is refused -----------------------------------------------------------------------------

ALL = sorted(tensors(0))


@pytest.mark.parametrize(
    ("training", "held", "message"),
    [
        ({}, set(ALL) - {"fc.bias"}, r"tensor 'fc\.bias' is missing"),
        ({"freeze": ["fc"]}, set(ALL) - {"fc.bias"}, r"'fc\.weight' but says that it withholds"),
        ({"freeze": ["fc.bias"]}, set(ALL), r"'fc\.bias' but says that it withholds it"),
        ({"local_layers": ["bn"]}, {*ALL} - {"bn.running_mean"}, r"num_batches_tracked' but says"),
        ({"freeze": ["*"]}, set(), "withholds every parameter"),
        ({"freeze": ["conv", "fc"], "local_layers": ["scale"]}, set(ROLES), "every parameter"),
        ({"freeze": "fc"}, set(ALL), r"training\.freeze: expected list, found str"),
        ({"local_layers": [["fc"]]}, set(ALL), r"local_layers\[0\]: expected str, found list"),
        ({"freeze": None}, set(ALL), r"training\.freeze: expected list, found NoneType"),
        ({"freeze": ["x*"] * 201}, set(ALL), "records as freeze more than 200 patterns"),
        ({"freeze": ["x" * 501]}, set(ALL), "or some of more than 500 characters"),
        ({"freeze": ["fc.bias"]}, {*ALL, "more"} - {"fc.bias"}, "'more' that the base model does"),
    ],
)
def test_what_does_not_hold_what_it_says_is_refused(
    tmp_path: Path, training: dict[str, Any], held: set[str], message: str
) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    whole = {**tensors(1), "more": np.zeros(2, np.float32)}
    roles = {name: role for name, role in ROLES.items() if name in held}
    deliver(run, "0", {name: whole[name] for name in held}, roles=roles, training=training)
    before = snapshot(run)
    with pytest.raises(UpdateError, match=rf"updates/0\.safetensors: .*{message}") as refused:
        aggregate(run)
    assert "aggregate --round 1 --exclude 0" in (refused.value.hint or "")
    assert snapshot(run) == before


@pytest.mark.parametrize("odd", ["0", "1", "2"])
def test_updates_that_withhold_different_tensors_are_refused_by_name(
    tmp_path: Path, odd: str
) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0", "1", "2"))
    for client in "012":
        away = {"fc.bias"} if client == odd else set()
        deliver(run, client, without(tensors(1), away), training={"freeze": sorted(away)})
    with pytest.raises(
        UpdateError, match=rf"/{odd}\.safetensors: withholds tensor 'fc\.bias'"
    ) as e:
        aggregate(run)
    others = "most of the updates" if odd == "0" else "the update of client 0"
    assert f"which is in {others};" in e.value.message
    assert "--freeze, --local-layers" in e.value.message
    assert aggregate(run, exclude=[odd]).clients


def test_roles_are_of_the_tensors_that_are_sent(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    away = {"bn.running_mean", "bn.num_batches_tracked"}
    deliver(run, "0", without(tensors(1), away), training={"local_layers": ["bn"]})
    with pytest.raises(UpdateError, match="has tensor roles"):
        aggregate(run)
    path = run.round(1).update("0")
    with Checkpoint(path) as checkpoint:
        metadata = replace(checkpoint.metadata, roles={})
    deliver(run, "0", without(tensors(1), away), roles={}, training=metadata.training)
    assert aggregate(run).clients
