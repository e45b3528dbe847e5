"""Buffers and counters never enter norms, distances, clipping, or optimizers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import (
    ADAPTIVE,
    RULE_OPTIONS,
    SEVEN,
    TRAINING,
    Tensors,
    engine,
    loaded,
    new_run,
)
from support.runs import deliver

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Role
from fedcli.run import Run
from fedcli.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("unsynced")
ROLES = {
    "bn.running_mean": Role.BUFFER,
    "bn.running_var": Role.BUFFER,
    "bn.num_batches_tracked": Role.COUNTER,
}
strategies = pytest.mark.parametrize("strategy", STRATEGIES)


def model(seed: int, scale: float = 1.0) -> Tensors:
    """A layer with BatchNorm: its buffers and its counter, times ``scale``."""
    rng, buffers = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    return {
        "bn.weight": rng.standard_normal(8, dtype=np.float32),
        "fc.weight": rng.standard_normal((5, 8)).astype(np.float32),
        "bn.running_mean": (scale * buffers.standard_normal(8)).astype(np.float32),
        "bn.running_var": (scale * (0.001 + buffers.random(8))).astype(np.float32),
        "bn.num_batches_tracked": np.int64(scale * (seed + 17)).reshape(()),
    }


def filled(root: Path, scales: dict[str, float]) -> Run:
    """Seven clients with the same parameters in every run, and buffers times a scale."""
    run = new_run(root, model(100), SEVEN, ROLES)
    for client in SEVEN:
        values = model(int(client), scales.get(client, 1.0))
        deliver(run, client, values, roles=ROLES, training=TRAINING)
    return run


def parameters(path: Path) -> dict[str, bytes]:
    return {name: v.tobytes() for name, v in loaded(path).items() if name not in ROLES}


@strategies
def test_what_buffers_and_counters_hold_changes_nobodys_weight(
    tmp_path: Path, strategy: str
) -> None:
    """Neither a clipping norm nor a distance of Krum counts them, nor does anything else."""
    plain = engine(filled(tmp_path / "plain", {}), strategy)
    scaled = engine(filled(tmp_path / "scaled", {"0": 1e6, "3": 1e-6, "6": 1e9}), strategy)
    assert parameters(plain.path) == parameters(scaled.path)
    for a, b in zip(plain.clients, scaled.clients, strict=True):
        assert (a.weight, a.kept) == (b.weight, b.kept)
        assert (a.norm, a.cosine, a.distance) == (b.norm, b.cosine, b.distance)


@strategies
def test_a_counter_stays_a_whole_number_that_a_client_has_sent(
    tmp_path: Path, strategy: str
) -> None:
    run = new_run(tmp_path, model(100), SEVEN, ROLES)
    sent = [2**62 + 2 * int(client) + 1 for client in SEVEN]  # no float64 holds them
    for client, count in zip(SEVEN, sent, strict=True):
        values = {**model(int(client)), "bn.num_batches_tracked": np.int64(count).reshape(())}
        deliver(run, client, values, roles=ROLES, training=TRAINING)
    found = loaded(engine(run, strategy).path)["bn.num_batches_tracked"]
    assert found.dtype == np.int64
    assert found.shape == ()
    assert int(found) in sent


SERVER_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("fedavgm", {"server_lr": 3.0}),
    ("fedadam", {"server_lr": 10.0}),
    ("fedyogi", {"server_lr": 10.0}),
    ("fedadagrad", {"server_lr": 10.0}),
    ("fedadam", {"server_lr": 10.0, "bias_correction": True}),
    ("centered-clipping", {"server_lr": 3.0}),
    ("median", {"server_optimizer": "adam", "server_lr": 10.0}),
]


@pytest.mark.parametrize(("strategy", "options"), SERVER_OPTIONS)
def test_a_server_optimizer_leaves_buffers_as_they_were_combined(
    tmp_path: Path, strategy: str, options: dict[str, Any]
) -> None:
    """A step of this length would make running variances negative."""
    run = filled(tmp_path / "run", {})
    found = loaded(engine(run, strategy, **options).path)
    stacks = {name: np.stack([model(int(c))[name] for c in SEVEN]) for name in ROLES}
    robust = strategy in ("centered-clipping", "median")
    combine = np.median if robust else np.average
    weights = {} if robust else {"weights": [10 + int(client) for client in SEVEN]}
    for name in ("bn.running_mean", "bn.running_var"):
        expected = combine(stacks[name].astype(np.float64), axis=0, **weights)
        assert (np.abs(found[name] - expected) <= np.spacing(np.abs(found[name]))).all()
    assert (found["bn.running_var"] > 0).all()
    start = model(100)
    assert (np.abs(found["fc.weight"] - start["fc.weight"]) > 0).all()  # the step was taken
    with Checkpoint(run.round(1).server_state) as state:
        assert {name.partition("/")[2] for name in state.layout} == {"bn.weight", "fc.weight"}


def test_every_rule_that_steps_was_tried() -> None:
    assert {strategy for strategy, _ in SERVER_OPTIONS} >= ADAPTIVE
    assert RULE_OPTIONS.keys() <= STRATEGIES.keys()


@pytest.mark.parametrize("strategy", ["clipped-mean", "centered-clipping"])
def test_a_clipping_norm_is_that_of_the_parameters(tmp_path: Path, strategy: str) -> None:
    """With counters in it, a norm would be thousands, and next to nothing left of an update."""
    run = filled(tmp_path, dict.fromkeys(SEVEN, 10000.0))
    start = model(100)
    deltas = []
    for client in SEVEN:
        values = model(int(client))
        names = [name for name in values if name not in ROLES]
        deltas.append(np.concatenate([(values[n].astype(float) - start[n]).ravel() for n in names]))
    norms = [float(np.linalg.norm(delta)) for delta in deltas]
    bound = 0.9 * min(norms)
    result = engine(run, strategy, clip_norm=bound)
    assert [c.norm for c in result.clients] == pytest.approx(norms, rel=1e-5)
    expected = [1 / 7 * bound / norm for norm in norms]
    assert [c.weight for c in result.clients] == pytest.approx(expected, rel=1e-9)
