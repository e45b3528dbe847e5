"""NaN, infinite and too large values, through every rule."""

from pathlib import Path

import numpy as np
import pytest
from support.handmade import (
    ADAPTIVE,
    SEVEN,
    TRAINING,
    Tensors,
    bring_controls,
    engine,
    loaded,
    new_run,
    snapshot,
)
from support.runs import deliver

from fedcli.errors import UpdateError
from fedcli.formats.dtypes import BFLOAT16, as_float, from_float
from fedcli.formats.metadata import Role
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.strategies import STRATEGIES
from fedcli.strategies.decision import Measures

pytestmark = pytest.mark.usefixtures("unsynced")
strategies = pytest.mark.parametrize("strategy", STRATEGIES)


def small(client: int) -> Tensors:
    rng = np.random.default_rng(client)
    return {
        "w": rng.standard_normal(6).astype(np.float32),
        "half": from_float(rng.standard_normal(3), BFLOAT16),
        "double": rng.standard_normal(4),
        "scale": np.float32(client).reshape(()),
        "running_mean": rng.standard_normal(5).astype(np.float32),
        "running_var": rng.random(2),
        "count": np.int64(client).reshape(()),
    }


SMALL_ROLES = {"running_mean": Role.BUFFER, "running_var": Role.BUFFER, "count": Role.COUNTER}


def small_run(root: Path, scale: float = 1) -> Run:
    """Seven clients; the last one is far from all others, so that robust rules leave it out."""
    run = new_run(root, small(100), SEVEN, SMALL_ROLES)
    for client in SEVEN:
        values = small(int(client))
        values["w"] = values["w"] + np.float32(1e3 if client == "6" else 0)
        deliver(run, client, values, roles=SMALL_ROLES, training=TRAINING)
    return run


@strategies
def test_what_is_no_number_is_refused_by_file_and_tensor(tmp_path: Path, strategy: str) -> None:
    run = small_run(tmp_path)
    for client, name, bad in [
        *[("6", name, np.nan) for name in small(0) if name != "count"],
        *[("0", name, np.nan) for name in ("w", "running_mean")],
        *[("6", name, bad) for name in ("w", "running_mean") for bad in (np.inf, -np.inf)],
    ]:
        path = run.round(1).update(client)
        good, values = path.read_bytes(), loaded(path)
        changed = as_float(values[name]).astype(np.float64)
        changed.reshape(-1)[-1] = bad
        values[name] = from_float(changed, values[name].dtype).reshape(changed.shape)
        deliver(run, client, values, roles=SMALL_ROLES, training=TRAINING)
        bring_controls(run, strategy)
        before = snapshot(run)
        message = rf"/{client}\.safetensors: tensor '{name}': 1 of {changed.size} values are NaN"
        with pytest.raises(UpdateError, match=message):
            engine(run, strategy)
        assert snapshot(run) == before
        path.write_bytes(good)
    engine(run, strategy)


@strategies
@pytest.mark.parametrize("name", ["w", "running_mean"])
def test_infinities_of_both_signs_do_not_hide_each_other(
    tmp_path: Path, strategy: str, name: str
) -> None:
    run = small_run(tmp_path)
    for client, bad in (("2", np.inf), ("6", -np.inf)):
        values = {**small(int(client)), name: small(0)[name].copy()}
        values[name][:2] = bad
        deliver(run, client, values, roles=SMALL_ROLES, training=TRAINING)
    with pytest.raises(UpdateError, match=rf"/2\.safetensors: tensor '{name}': 2 of"):
        engine(run, strategy)


# Those that step further than the mean would step over the largest of all.
@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - ADAPTIVE - {"feddyn"}))
def test_the_largest_numbers_are_numbers(tmp_path: Path, strategy: str) -> None:
    run = small_run(tmp_path)
    most = np.finfo(np.float32).max
    for client in SEVEN:
        values = small(int(client))
        values["w"] = np.array([most, -most, most, -most, 1, -1], np.float32)
        values["running_mean"] = np.full(5, most, np.float32)
        deliver(run, client, values, roles=SMALL_ROLES, training=TRAINING)
    found = loaded(engine(run, strategy).path)
    assert np.isfinite(found["w"]).all()
    assert (found["running_mean"] == most).all()


def test_a_result_that_overflows_is_refused_by_its_tensor(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    for client in SEVEN:
        values = {**small(int(client)), "w": np.full(6, 2e38, np.float32)}
        deliver(run, client, values, roles=SMALL_ROLES, training=TRAINING)
    before = snapshot(run)
    with pytest.raises(UpdateError, match=r"the result overflows in tensor 'w'$"):
        engine(run, "fedavg", server_lr=2.0)
    with pytest.raises(UpdateError, match=r"the result overflows in tensor 'w'$"):
        engine(run, "fedadam")  # the squares, of which the server keeps a mean in float32
    assert snapshot(run) == before
    engine(run, "fedavg", server_lr=1.5)


@strategies
def test_one_client_cannot_make_a_norm_overflow_unseen(tmp_path: Path, strategy: str) -> None:
    """The square of 1e200 overflows float64: a finite model, or an error that says so."""
    run = small_run(tmp_path)
    values = {**small(6), "double": np.full(4, 1e200)}
    deliver(run, "6", values, roles=SMALL_ROLES, training=TRAINING)
    message = r"/6\.safetensors: tensor 'double': is so far .* that its norm overflows"
    if strategy in ADAPTIVE:
        message = "the result overflows in tensor 'double'"
    elif resolve(AggregatePlan(strategy)).measures == Measures.NOTHING:
        found = loaded(engine(run, strategy).path)
        assert all(np.isfinite(as_float(tensor)).all() for tensor in found.values())
        return
    with pytest.raises(UpdateError, match=message):
        engine(run, strategy)
