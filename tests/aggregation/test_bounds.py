"""One participant of several cannot move a round by what no norm measures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import RULE_OPTIONS, SEVEN, TRAINING, Tensors, engine, loaded, new_run
from support.runs import deliver

from fedcli.formats.manifest import BoundedClaim, Manifest
from fedcli.formats.metadata import Role
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("unsynced")
ROLES = {
    "bn.running_mean": Role.BUFFER,
    "bn.running_var": Role.BUFFER,
    "bn.num_batches_tracked": Role.COUNTER,
}
ROBUST = sorted(
    name for name, row in STRATEGIES.items() if row.reduce != "mean" and row.weighting == "uniform"
)
MEANS = sorted(name for name, row in STRATEGIES.items() if row.reduce == "mean")
HOSTILE = "3"


def model(client: str) -> Tensors:
    rng = np.random.default_rng(int(client))
    return {
        "bn.weight": rng.standard_normal(8, dtype=np.float32),
        "fc.weight": rng.standard_normal((5, 8), dtype=np.float32),
        "bn.running_mean": rng.normal(0.2, 0.1, 8).astype(np.float32),
        "bn.running_var": rng.uniform(0.5, 2, 8).astype(np.float32),
        "bn.num_batches_tracked": np.int64(20 + int(client)).reshape(()),
    }


def base() -> Tensors:
    return {name: np.zeros_like(values) for name, values in model("0").items()}


def attacked(root: Path, **instead: Any) -> Run:
    """Seven clients; the hostile one sends the others' mean, and these buffers and counters."""
    run = new_run(root, base(), SEVEN, ROLES)
    models = {client: model(client) for client in SEVEN}
    others = [models[client] for client in SEVEN if client != HOSTILE]
    for name in ("bn.weight", "fc.weight"):
        models[HOSTILE][name] = np.mean([one[name] for one in others], axis=0)
    for name, value in instead.items():
        tensor = models[HOSTILE][f"bn.{name}"]
        models[HOSTILE][f"bn.{name}"] = np.full_like(tensor, value)
    for client, values in models.items():
        deliver(run, client, values, roles=ROLES, training=TRAINING)
    return run


ATTACKS: list[dict[str, Any]] = [
    {"running_var": 1e30, "running_mean": -1e30, "num_batches_tracked": 2**63 - 1},
    {"running_var": -1e30, "running_mean": 1e30, "num_batches_tracked": -(2**63)},
    {"running_var": 3e38, "running_mean": 3e38, "num_batches_tracked": 2**62},
    {"running_var": -0.5},
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("strategy", ROBUST)
def test_a_robust_rule_takes_the_median_of_all_for_buffers_and_counters(
    tmp_path: Path, strategy: str, attack: dict[str, Any]
) -> None:
    """Krum chooses the hostile client's parameters here, and its buffers count like others'."""
    run = attacked(tmp_path / "run", **attack)
    result = engine(run, strategy)
    if strategy == "krum":
        assert [c.client for c in result.clients if c.kept] == [HOSTILE]
    found = loaded(result.path)
    honest = [model(client) for client in SEVEN if client != HOSTILE]
    for name in ROLES:
        values = np.stack([one[name] for one in honest])
        assert (values.min(axis=0) <= found[name]).all(), name
        assert (found[name] <= values.max(axis=0)).all(), name


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("strategy", MEANS)
def test_a_mean_limits_buffers_and_counters_by_those_of_the_others(
    tmp_path: Path, strategy: str, attack: dict[str, Any]
) -> None:
    run = attacked(tmp_path / "run", **attack)
    result = engine(run, strategy)
    found = loaded(result.path)
    assert (found["bn.running_var"] > 0).all()
    assert (found["bn.running_var"] < 20).all()
    assert (np.abs(found["bn.running_mean"]) < 20).all()
    assert 20 <= found["bn.num_batches_tracked"] <= 10 * 26
    bounded = {one.what for one in result.bounded}
    assert {one.client for one in result.bounded} == {HOSTILE}
    assert "bn.running_var" in bounded
    assert ("bn.num_batches_tracked" in bounded) == (attack.get("num_batches_tracked", 0) > 0)
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.bounded == result.bounded


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_as_usual_is_not_limited(tmp_path: Path, strategy: str) -> None:
    result = engine(attacked(tmp_path / "run"), strategy)
    assert result.bounded == ()
    assert "bounded" not in json.loads((result.path.parent / "aggregate.json").read_text())


def test_limits_do_not_depend_on_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fedcli.aggregation.blocks as blocks
    import fedcli.aggregation.reduce as reduce

    found = set()
    for size in (1 << 20, 16):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        monkeypatch.setattr(reduce, "BLOCK_BYTES", size)
        run = attacked(tmp_path / str(size), **ATTACKS[0])
        found.add(engine(run, "fedavg").path.read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("weighting", [None, "examples"])
@pytest.mark.parametrize("strategy", ["rfa", "clipped-mean"])
def test_claimed_examples_do_not_make_one_of_ten_the_result(
    tmp_path: Path, strategy: str, weighting: str | None
) -> None:
    run = new_run(tmp_path, base(), tuple("0123456789"), ROLES)
    for client in "0123456789":
        count = 10**9 if client == HOSTILE else 600
        deliver(run, client, model(client), roles=ROLES, num_examples=count)
    options = {**RULE_OPTIONS.get(strategy, {}), "weighting": weighting}
    result = aggregate(run, options={"strategy": strategy, **options})
    assert result.weighting == (weighting or "uniform")
    weights = {client.client: client.weight for client in result.clients}
    if weighting is None:
        assert weights[HOSTILE] < 0.2
        assert result.bounded == ()  # nothing is multiplied by it
    else:
        assert result.bounded == (BoundedClaim(HOSTILE, "num_examples", 1e9, 2700.0),)
        assert weights[HOSTILE] <= 10 * max(w for c, w in weights.items() if c != HOSTILE)


def test_the_geometric_median_says_whether_it_has_settled(delivered: Run, cli: Any) -> None:
    status, out, err = cli(
        "aggregate", "--run", delivered.root, "--strategy", "rfa", "--iterations", "1"
    )
    assert status == 0, err
    assert "note: rfa has not settled after --iterations 1" in out
    again = ("aggregate", "--run", delivered.root, "--round", "1", "--strategy", "rfa")
    status, out, _ = cli(*again, "--force")
    assert status == 0
    assert "not settled" not in out


def test_what_was_bounded_is_said(delivered: Run, cli: Any) -> None:
    deliver(
        delivered, "2", model("2") and loaded(delivered.round(1).update("2")), num_examples=10**8
    )
    status, out, _ = cli("aggregate", "--run", delivered.root)
    assert status == 0
    assert "bounded: client 2: num_examples 1e+08 counts as 110" in out
