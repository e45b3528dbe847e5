"""Hierarchy: a tree of partial means makes the model of all updates at once."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.handmade import Tensors, copied, edge, filled, loaded, same_bits, wide
from support.runs import ROLES, fedcli

from fedcli.errors import ConflictError, NotReadyError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Role
from fedcli.run import Run
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.partial import partial
from fedcli.strategies import STRATEGIES

CLIENTS = tuple("012345")
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return filled(tmp_path / "run", {client: wide(1 + int(client)) for client in CLIENTS})


def both(run: Run, members: list[str], **options: Any) -> tuple[AggregateResult, Tensors, Tensors]:
    """Aggregate the members, and all updates at once."""
    flat = copied(run, run.root.parent / "flat")
    once = loaded(aggregate(flat, options=options).path)
    result = aggregate(run, members=members, options=options)
    return result, loaded(result.path), once


def within_one_ulp(tree: Tensors, flat: Tensors) -> int:
    """Counters are the same, floats at most one unit in the last place apart; how many are."""
    different = 0
    for name in flat:
        if ROLES.get(name) == Role.COUNTER or flat[name].dtype.kind != "f":
            assert (tree[name] == flat[name]).all(), name
        elif flat[name].dtype == np.float32:
            apart = np.abs(tree[name].astype(float) - flat[name].astype(float))
            assert (apart <= np.spacing(np.abs(flat[name]))).all(), name
            different += np.count_nonzero(apart)
        else:
            np.testing.assert_allclose(tree[name], flat[name], rtol=1e-12, atol=1e-13)
    return different


# --- a tree equals the flat result -------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_a_tree_is_the_flat_mean(run: Run, weighting: str) -> None:
    options = {"weighting": weighting}
    left = edge(run, "left", "0", "1", options=options)
    inner = edge(run, "inner", "3", "4", options=options)
    right = edge(run, "right", inner, "2", options=options)
    result, tree, flat = both(run, [left, right, "5"], **options)
    values = sum(t.size for t in flat.values() if t.dtype == np.float32)
    # Measured: none of 131,000. A sum in float64 has to lie within 1e-16 of the middle between
    # two values of float32 for its order to be seen.
    assert within_one_ulp(tree, flat) <= values // 100_000 + 1
    assert [c.client for c in result.clients] == ["5"]
    assert [(p.name, p.clients) for p in result.partials] == [("left", 2), ("right", 3)]
    examples = [10 + int(client) for client in CLIENTS]
    shares = examples if weighting == "examples" else [1] * 6
    assert [p.weight for p in result.partials] == [
        sum(shares[:2]) / sum(shares),
        sum(shares[2:5]) / sum(shares),
    ]
    assert [p.num_examples for p in result.partials] == [sum(examples[:2]), sum(examples[2:5])]


def test_a_server_optimizer_on_top(run: Run) -> None:
    left, right = edge(run, "left", "0", "1", "2"), edge(run, "right", "3", "4", "5")
    _, tree, flat = both(run, [left, right], strategy="fedadam")
    assert within_one_ulp(tree, flat) <= 2
    state = loaded(run.round(1).server_state)
    for name, values in loaded(
        run.root.parent / "flat/rounds/0001/server_state.safetensors"
    ).items():
        np.testing.assert_allclose(state[name], values, rtol=1e-6, atol=1e-12)


def test_one_partial_mean_of_all_is_the_flat_mean(run: Run) -> None:
    _, tree, flat = both(run, [edge(run, "all")])
    assert within_one_ulp(tree, flat) == 0


@given(data=st.data(), weighting=st.sampled_from(["examples", "uniform"]))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_grouping_of_any_clients(data: st.DataObject, weighting: str) -> None:
    count = data.draw(st.integers(2, 7))
    clients = tuple(map(str, range(count)))
    examples = {c: data.draw(st.integers(1, 10**6)) for c in clients}
    scale = data.draw(st.sampled_from([1e-30, 1.0, 1e30]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    models = {
        client: {
            "w": (rng.standard_normal(200) * scale).astype(np.float32),
            "bn.num_batches_tracked": rng.integers(0, 2**62, ()),
        }
        for client in clients
    }
    groups = [data.draw(st.integers(0, 3)) for _ in clients]
    options = {"weighting": weighting, "max_examples": 10**6}
    with tempfile.TemporaryDirectory() as place:
        run = filled(Path(place) / "run", models, examples)
        members = [c for c, group in zip(clients, groups, strict=True) if group == 0]
        for group in {1, 2, 3} & set(groups):
            own = [c for c, g in zip(clients, groups, strict=True) if g == group]
            members.append(edge(run, f"edge-{group}", *own, options=options))
        _, tree, flat = both(run, members, **options)
    # One bit where they differ: sums that cancel out keep what float64 has rounded off.
    apart = np.abs(tree["w"].astype(float) - flat["w"].astype(float))
    exact = 1e-15 * np.max([np.abs(model["w"]) for model in models.values()], axis=0)
    assert (apart <= np.spacing(np.abs(flat["w"])).astype(float) + exact).all()
    assert tree["bn.num_batches_tracked"] == flat["bn.num_batches_tracked"]


# --- what is in the file -----------------------------------------------------------------------


def test_a_partial_mean_holds_the_sums_and_who_is_in_it(run: Run) -> None:
    inner = edge(run, "inner", "4", "0")
    path = Path(edge(run, "outer", inner, "2"))
    digests = {client: digest(run.round(1).update(client)) for client in "024"}
    with Checkpoint(path, Kind.PARTIAL) as checkpoint:
        metadata, found = checkpoint.metadata, checkpoint.tensors()
    assert dict(metadata.updates or {}) == digests
    assert metadata.partials == {"inner": digest(Path(inner))}
    assert metadata.num_examples == 10 + 12 + 14
    assert (metadata.round, metadata.weighting) == (1, "examples")
    assert (metadata.run, metadata.base) == (run.id, digest(run.round(0).global_model))
    models = {client: wide(1 + int(client)) for client in "024"}
    for name, values in found.items():
        rows = [models[c][name] for c in "042"]
        if rows[0].dtype.kind == "f":
            assert values.dtype == np.float64
            weighted = [w * r.astype(np.float64) for w, r in zip((10, 14, 12), rows, strict=True)]
            np.testing.assert_allclose(values, sum(weighted), rtol=1e-15, atol=1e-13)
        else:
            assert values.dtype == np.int64
            assert (values == np.max(rows, axis=0)).all()


def test_the_order_of_the_members_changes_no_byte(run: Run) -> None:
    files = {Path(edge(run, f"e{i}", *order)).read_bytes() for i, order in enumerate(
        itertools.permutations("013")
    )}  # fmt: skip
    assert len(files) == 1


def test_the_manifest_tells_updates_from_partial_means(run: Run) -> None:
    path = edge(run, "north", "0", "1", "2")
    result = aggregate(run, members=[path, "3"], min_clients=4)
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert (manifest.accepted, manifest.partials) == (result.clients, result.partials)
    (north,) = manifest.partials
    assert (north.name, north.sha256, north.clients) == ("north", digest(Path(path)), 3)
    assert {r.client: r.reason for r in manifest.rejected} == {
        **dict.fromkeys("012", "in a partial mean already"),
        **dict.fromkeys("45", "not named on the command line"),
    }
    with Checkpoint(result.path) as model:
        assert model.metadata.partials == {"north": digest(Path(path))}
        assert set(model.metadata.updates or {}) == {"3"}
    assert aggregate(run, round_number=1, members=[path, "3"], min_clients=4).already_done
    partial(run, ["0", "1"], Path(path), round_number=1, force=True)
    with pytest.raises(ConflictError, match="other partial means"):
        aggregate(run, round_number=1, members=[path, "3"], min_clients=3)


# --- who is in it, and who is missing ----------------------------------------------------------


def test_files_alone_add_up_to_what_is_in_them(run: Run) -> None:
    files = [edge(run, "left", "0", "1"), edge(run, "right", "3")]
    with Checkpoint(Path(edge(run, "both", *files))) as checkpoint:
        assert set(checkpoint.metadata.updates or {}) == {"0", "1", "3"}


def test_who_is_in_no_partial_mean_is_missing(run: Run) -> None:
    left = edge(run, "left", "0", "1")
    for client in "245":
        run.round(1).update(client).unlink()
    with pytest.raises(NotReadyError, match=r"3 of 6 .*missing: 2, 4, 5"):
        aggregate(run, members=[left])
    result = aggregate(run, members=[left], min_clients=3)
    assert [absence.client for absence in result.missing] == ["2", "4", "5"]
    assert [c.client for c in result.clients] == ["3"]


def test_who_may_not_take_part_does_not_in_a_partial_mean(tmp_path: Path, run: Run) -> None:
    left = edge(run, "left", "0", "1")
    for step in (
        lambda **options: aggregate(run, members=[left], **options),
        lambda **options: edge(run, "new", left, **options),
    ):
        with pytest.raises(UsageError, match=r"left\.safetensors: .*client 1, which is excluded"):
            step(exclude=["1", "5"])
        with pytest.raises(UsageError, match=r"client [01], which is not sampled in round 1"):
            step(options={"clients_per_round": 1})
    assert aggregate(run, members=[left], options={"fraction": 1.0}).partials
    stranger = filled(tmp_path / "open", {client: wide(1) for client in ("0", "x")})
    foreign = edge(stranger, "foreign", "0", "x")
    with pytest.raises(UsageError, match=r"client x, which is not a client of this run"):
        aggregate(run, members=[foreign])


def test_a_partial_mean_may_be_called_what_a_client_is_called(run: Run) -> None:
    sums = []
    for name, outer in (("other", "a"), ("4", "b")):
        inner = edge(run, name, "0", "1")
        path = Path(edge(run, outer, inner, "4"))
        with Checkpoint(path) as checkpoint:
            metadata = checkpoint.metadata
        assert metadata.partials == {name: digest(Path(inner))}
        assert metadata.updates == {c: digest(run.round(1).update(c)) for c in "014"}
        assert partial(run, [inner, "4"], path).already_done
        sums.append(loaded(path))
    same_bits(*sums)
    result = aggregate(run, members=[inner, "4"], min_clients=3)
    with Checkpoint(result.path) as model:
        assert model.metadata.partials == {"4": digest(Path(inner))}
        assert model.metadata.updates == {"4": digest(run.round(1).update("4"))}


def test_the_updates_behind_a_partial_mean_are_not_needed(run: Run) -> None:
    left = edge(run, "left", "0", "1", "2")
    right = edge(run, "right", "3", "4", "5")
    flat = loaded(aggregate(copied(run, run.root.parent / "flat")).path)
    for client in CLIENTS:
        run.round(1).update(client).unlink()
    result = aggregate(run, members=[left, right])
    assert (result.clients, result.missing) == ((), ())
    assert within_one_ulp(loaded(result.path), flat) <= 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"scaffold", "feddyn"}))
def test_only_means_of_examples_or_uniform_take_partial_means(run: Run, strategy: str) -> None:
    left = edge(run, "left", "0", "1")
    options = {"strategy": strategy}
    if strategy in ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"):
        assert aggregate(run, members=[left], options=options).partials
        return
    with pytest.raises(UsageError, match="partial means add up to a mean"):
        aggregate(run, members=[left], options=options)
    with pytest.raises(UsageError, match="--partial: adds up means"):
        edge(run, "right", "2", options=options)


def test_nobody_counts_twice(run: Run) -> None:
    left, right = edge(run, "left", "0", "1"), edge(run, "right", "1", "2")
    for members, message in (
        ([left, right], r"client 1 is also in .*left\.safetensors"),
        ([left, "1"], r"client 1: is already in .*left\.safetensors"),
        ([left, left], "another partial mean is also called left"),
    ):
        for step in (
            lambda members: aggregate(run, members=members),
            lambda members: edge(run, "new", *members),
        ):
            with pytest.raises(UsageError, match=message):
                step(members)


def test_a_session(run: Run) -> None:
    directory = run.root.parent
    for name, ids in (("a", ["0", "1"]), ("b", ["2-4"])):
        words = ["aggregate", "--run", "run", "--partial", "-o", f"{name}.safetensors", *ids]
        done = fedcli(*words, cwd=directory)
        assert (done.status, done.err) == (0, "")
    done = fedcli(
        "aggregate", "--run", "run", "a.safetensors", "b.safetensors", 5, "--json", cwd=directory
    )
    assert [(p["name"], p["clients"]) for p in done.json["partials"]] == [("a", 2), ("b", 3)]
    tree = loaded(run.round(1).global_model)
    aggregate(run, round_number=1, force=True)
    assert within_one_ulp(tree, loaded(run.round(1).global_model)) <= 1
