"""Every rule from files to files: against whole tensors in float64, and to the byte."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import (
    ADAPTIVE,
    ALL_ROLES,
    RULE_OPTIONS,
    SEVEN,
    TRAINING,
    Tensors,
    copied,
    engine,
    loaded,
    new_run,
    of_every_kind,
    same_bits,
)
from support.reference import MEANS, Clients, coefficients, coordinate_wise, first_step
from support.runs import deliver

from fedcli.aggregation import blocks
from fedcli.aggregation import reduce as combining
from fedcli.formats.dtypes import BFLOAT16, as_float
from fedcli.formats.metadata import Role
from fedcli.run import Run
from fedcli.strategies import STRATEGIES

FAR = "56"  # these two are unlike the others
STATEFUL = {"fedavgm", "centered-clipping", "scaffold", "feddyn", *ADAPTIVE}
strategies = pytest.mark.parametrize("strategy", STRATEGIES)
pytestmark = pytest.mark.usefixtures("unsynced")


def training(client: str) -> dict[str, Any]:
    """Unequal steps and losses, for FedNova and q-FedAvg."""
    return {**TRAINING, "steps": 10 + 3 * int(client), "initial_loss": 0.5 + int(client)}


def examples(client: str) -> int:
    return 10 + 7 * int(client)


@lru_cache
def update(client: str) -> Tensors:
    values = of_every_kind(1 + int(client))
    if client in FAR:
        for name in ("a.weight", "d.weight", "n.running_mean", "i.weight"):
            values[name] = (values[name] * -3).astype(values[name].dtype)
    return values


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Seven clients with a model of every role, every dtype, and tensors of several blocks."""
    run = new_run(tmp_path_factory.mktemp("engine") / "run", of_every_kind(0), SEVEN, ALL_ROLES)
    for client in SEVEN:
        values, notes = update(client), training(client)
        deliver(run, client, values, roles=ALL_ROLES, num_examples=examples(client), training=notes)
    return run


# --- against whole tensors ---------------------------------------------------------------------


def flat(models: list[Tensors], names: list[str]) -> Any:
    rows = [[as_float(m[name]).astype(np.float64).ravel() for name in names] for m in models]
    return np.stack([np.concatenate(row) for row in rows])


def spacing(values: Any, dtype: Any) -> Any:
    """One unit in the last place of values when they are of this dtype."""
    if dtype == BFLOAT16:
        return np.spacing(np.abs(values).astype(np.float32)).astype(np.float64) * 2**16
    return np.spacing(np.abs(values).astype(dtype)).astype(np.float64)


def expected(strategy: str) -> dict[str, Any]:
    """Every tensor of the result, in float64; counters in their own dtype."""
    base, models = of_every_kind(0), [update(client) for client in SEVEN]
    floats = [name for name in base if ALL_ROLES.get(name) != Role.COUNTER]
    parameters = [name for name in floats if name not in ALL_ROLES]
    start = flat([base], parameters)[0]
    clients = Clients(
        flat(models, parameters) - start,
        [examples(client) for client in SEVEN],
        [training(client) for client in SEVEN],
        RULE_OPTIONS.get(strategy, {}),
    )
    coefficient = coefficients(strategy, clients)
    result = {}
    for name in base:
        stack = np.stack([as_float(model[name]) for model in models])
        if ALL_ROLES.get(name) == Role.COUNTER:
            ranks = np.sort(stack, axis=0)
            result[name] = ranks[-1 if strategy in MEANS else (len(stack) - 1) // 2]
            continue
        stack = stack.astype(np.float64)
        before = as_float(base[name]).astype(np.float64)
        if name not in parameters and strategy not in MEANS:
            result[name] = np.median(stack, axis=0)
        elif coefficient is None:
            rows = stack.reshape(len(stack), -1)
            result[name] = coordinate_wise(strategy, rows, clients).reshape(before.shape)
        elif name in parameters:
            deltas = (c * (stack[i] - before) for i, c in coefficient.items())
            result[name] = before + first_step(strategy, np.sum(list(deltas), axis=0))
        else:
            shares = np.array(list(coefficient.values())) / sum(coefficient.values())
            result[name] = np.tensordot(shares, stack, 1)
    return result


@strategies
def test_equals_whole_tensors_in_float64(tmp_path: Path, delivered: Run, strategy: str) -> None:
    """To half a unit in the last place of each dtype, and 1e-13 of the largest values."""
    found = loaded(engine(copied(delivered, tmp_path / "run"), strategy).path)
    base = of_every_kind(0)
    for name, wanted in expected(strategy).items():
        assert (found[name].dtype, found[name].shape) == (base[name].dtype, base[name].shape), name
        if ALL_ROLES.get(name) == Role.COUNTER:
            assert (found[name] == wanted).all(), name
            continue
        error = np.abs(as_float(found[name]).astype(np.float64) - wanted)
        tolerance = 0.5 * spacing(wanted, found[name].dtype) + 1e-13 * np.abs(wanted)
        tolerance += 1e-13 * np.max([np.abs(as_float(update(c)[name])) for c in SEVEN], axis=0)
        worst = (error / np.maximum(tolerance, np.finfo(float).tiny)).max(initial=0)
        assert (error <= tolerance).all(), (name, worst)


# --- to the byte -------------------------------------------------------------------------------


def outputs(run: Run) -> dict[str, Any]:
    """What a round leaves behind, without the one volatile value."""
    files: dict[str, Any] = {
        path.name: path.read_bytes() for path in run.round(1).path.iterdir() if path.is_file()
    }
    manifest = json.loads(files["aggregate.json"])
    del manifest["seconds"]
    return {**files, "aggregate.json": manifest}


@strategies
def test_neither_arrival_nor_threads_nor_block_size_change_a_byte(
    tmp_path: Path, delivered: Run, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    cases = ((1, 1 << 20, 1), (2, None, -1), (5, 8192, 1))
    for cores, size, order in cases:
        run = copied(delivered, tmp_path / str(cores))
        for path in sorted(run.round(1).updates.iterdir())[::order]:
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)  # so that a directory lists it where it arrived
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "available_cores", lambda cores=cores: cores)
            if size:
                patch.setattr(combining, "BLOCK_BYTES", size)
                patch.setattr(combining, "block_bytes", lambda _, size=size: size)
            engine(run, strategy)
        found.append(outputs(run))
    state = {"server_state.safetensors"} if strategy in STATEFUL else set()
    assert found[0].keys() == {"aggregate.json", "global.safetensors"} | state
    for other in found[1:]:
        assert other == found[0]


# The others need more clients, or take a step of another length.
@pytest.mark.parametrize(
    "strategy",
    [
        *("fedavg", "fedavgm", "fednova", "fedbuff", "scaffold", "median"),
        *("foolsgold", "rfa", "clipped-mean", "centered-clipping"),
    ],
)
def test_one_client_alone_gives_its_own_model(tmp_path: Path, strategy: str) -> None:
    run = new_run(tmp_path, of_every_kind(0), ("0",), ALL_ROLES)
    deliver(run, "0", update("0"), roles=ALL_ROLES, training=TRAINING)
    options = {"clip_norm": 1e6} if "clip" in strategy else {}
    found = loaded(engine(run, strategy, **options).path)
    same_bits(found, update("0"))
