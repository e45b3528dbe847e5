"""``inspect``: what is in a file, and how two differ."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save_file
from support.handmade import of_every_kind, planned
from support.runs import ROLES, deliver, fedcli, tensors

from fedcli.errors import CheckpointError, NotReadyError
from fedcli.formats.checkpoint import save
from fedcli.formats.dtypes import BFLOAT16, as_float, from_float
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.inspect import Inspected, compare, inspect

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = planned(tmp_path / "fedrun", ("0", "1"))
    for client in "01":
        deliver(run, client, tensors(1 + int(client)), training={"lr": 0.1, "epochs": 2})
    aggregate(run, options={"strategy": "fedavgm"})
    return run


def figures(found: Inspected) -> dict[str, Any]:
    return {tensor.name: tensor.figures for tensor in found.tensors}


def shard(path: Path, labels: list[int]) -> Path:
    values = {"x": np.arange(12 * len(labels)).reshape(-1, 3, 2, 2).astype("u1")}
    metadata = Metadata(Kind.SHARD, "r", client="0", num_examples=len(labels))
    save(path, values | {"y": np.array(labels)}, metadata)
    return path


# --- one file ------------------------------------------------------------------------------------


def test_figures_are_those_of_numpy_in_float64(tmp_path: Path) -> None:
    values = of_every_kind(3)
    path = tmp_path / "a.safetensors"
    save(path, values, Metadata(Kind.GLOBAL, "r", round=0))
    found = inspect(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.bytes == path.stat().st_size
    assert figures(found).keys() == values.keys()
    squares = 0.0
    for tensor in found.tensors:
        exact = as_float(values[tensor.name]).astype(float).reshape(-1)
        assert tensor.shape == values[tensor.name].shape
        assert tensor.figures.norm == pytest.approx(np.linalg.norm(exact), rel=1e-12)
        if exact.size:
            assert tensor.figures.least == exact.min()
            assert tensor.figures.greatest == exact.max()
        else:
            assert tensor.figures.least is None
        if tensor.dtype in ("F64", "F32", "F16", "BF16"):
            squares += exact @ exact
    assert found.norm == pytest.approx(math.sqrt(squares))


def test_what_an_update_says_of_itself(run: Run) -> None:
    found = inspect(run.round(1).update("1"))
    assert found.metadata is not None
    assert found.metadata["kind"] == "update"
    assert (found.metadata["round"], found.metadata["client"]) == (1, "1")
    assert found.metadata["training"] == {"lr": 0.1, "epochs": 2}
    roles = {tensor.name: tensor.role for tensor in found.tensors if tensor.role != "parameter"}
    assert roles == ROLES
    parameters = [v for name, v in tensors(2).items() if name not in ROLES]
    norm = math.sqrt(sum(float(np.square(v.astype(float)).sum()) for v in parameters))
    assert found.norm == pytest.approx(norm)


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    values = np.array([1.0, np.nan, -np.inf, -2.0], np.float32)
    large = np.full(3, 1e200)
    path = tmp_path / "a.safetensors"
    save(path, {"w": values, "large": large}, Metadata(Kind.UPDATE, "r"))
    found = figures(inspect(path))
    assert (found["w"].norm, found["w"].not_finite) == (None, 2)
    assert (found["w"].least, found["w"].greatest) == (-2, 1)
    assert (found["large"].norm, found["large"].not_finite) == (None, 0)
    assert inspect(path).norm is None
    shown = fedcli("inspect", path, cwd=tmp_path)
    assert "not finite" in shown.out
    json.loads(
        fedcli("inspect", path, "--json", cwd=tmp_path).out, parse_constant=pytest.fail
    )  # NaN is no JSON


def test_labels_of_a_shard_are_counted(tmp_path: Path) -> None:
    found = inspect(shard(tmp_path / "a.safetensors", [0, 3, 3, 1]))
    assert found.labels == (1, 1, 0, 2)
    assert (figures(found)["x"].least, figures(found)["x"].greatest) == (0, 47)
    assert inspect(shard(tmp_path / "b.safetensors", [0, -3])).labels is None
    assert inspect(shard(tmp_path / "c.safetensors", [0, 2**62])).labels is None


def test_a_file_of_another_program_is_said_to_be_one(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "a.safetensors", {"by": "x"})
    found = inspect(tmp_path / "a.safetensors")
    assert found.metadata is None
    assert found.norm == pytest.approx(math.sqrt(6))
    shown = fedcli("inspect", "a.safetensors", cwd=tmp_path)
    assert shown.status == 0
    assert "not written by fedcli" in shown.out


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays(st.sampled_from(["<f4", "<f8", "<i8", "u1", "?"]), array_shapes(min_dims=0, min_side=0))
)
def test_any_tensor_is_put_into_figures(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "a.safetensors"
    save(path, {"w": values}, Metadata(Kind.GLOBAL, "r"))
    (found,) = inspect(path).tensors
    finite = values[np.isfinite(values)]
    assert found.figures.not_finite == values.size - finite.size
    if finite.size:
        assert found.figures.least == float(finite.min())
    assert compare(path, path).same


# --- two files -----------------------------------------------------------------------------------


def test_a_file_is_the_same_as_itself(run: Run) -> None:
    path = run.round(1).update("0")
    found = compare(path, path)
    assert found.same
    assert found.facts == {}
    assert [tensor.different for tensor in found.tensors] == [0] * 6
    assert found.cosine == pytest.approx(1)


def test_what_differs_is_measured_tensor_by_tensor(run: Run) -> None:
    one, other = run.round(1).update("0"), run.round(1).update("1")
    found = compare(one, other)
    a, b = tensors(1), tensors(2)
    assert not found.same
    assert found.facts == {"client": ("0", "1"), "num_examples": (10, 11)}
    for tensor in found.tensors:
        x, y = (values[tensor.name].astype(float) for values in (a, b))
        assert tensor.different == np.count_nonzero(x != y)
        assert tensor.largest == np.abs(x - y).max()
        assert tensor.relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x))
    x, y = (
        np.concatenate([v.reshape(-1).astype(float) for n, v in each.items() if n not in ROLES])
        for each in (a, b)
    )
    assert found.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_other_names_shapes_and_dtypes(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 7)
    one, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save(
        one,
        {"w": values, "v": values, "only": values, "h": from_float(values, BFLOAT16)},
        Metadata(Kind.UPDATE, "r"),
    )
    save(
        other,
        {"w": values.astype(np.float32), "v": values[:3], "more": values, "h": values},
        Metadata(Kind.UPDATE, "r"),
    )
    found = compare(one, other)
    assert (found.first_only, found.second_only) == (("only",), ("more",))
    assert found.other_shape == ("v",)
    largest = {tensor.name: tensor.largest for tensor in found.tensors}
    assert largest["w"] == np.abs(values - values.astype(np.float32)).max()
    assert largest["h"] == pytest.approx(0.0, abs=2**-8)


def test_a_value_that_is_not_finite_differs_from_one_that_is(tmp_path: Path) -> None:
    one, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, value in ((one, 1.0), (other, np.nan)):
        save(path, {"w": np.array([value, 2.0, np.nan])}, Metadata(Kind.UPDATE, "r"))
    (tensor,) = compare(one, other).tensors
    assert (tensor.different, tensor.largest, tensor.relative) == (1, None, None)
    assert compare(one, other).cosine is None


# --- as a command --------------------------------------------------------------------------------


def test_the_command_shows_every_kind_of_file(run: Run, tmp_path: Path) -> None:
    path = shard(run.root / "data.safetensors", [0, 3, 3, 1])
    for name, words in {
        "rounds/0001/updates/1.safetensors": ("update", "lr 0.1", "conv.weight", "8×3×3×3"),
        "rounds/0001/global.safetensors": ("global", "buffer", "counter", "()"),
        "rounds/0001/server_state.safetensors": ("server-state", "momentum/fc.bias"),
        path: ("shard", "1 1 0 2", "greatest"),
    }.items():
        done = fedcli("inspect", name, cwd=tmp_path)
        assert (done.status, done.err) == (0, "")
        assert max(map(len, done.out.splitlines())) <= 80
        assert all(word in done.out for word in words), done.out
    done = fedcli("inspect", *(run.round(1).update(c) for c in "01"), cwd=tmp_path)
    assert "0 of 6 common tensors are equal" in done.out
    assert "cosine" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_names_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    hostile = "evil\x1b[31m\x07\u202e\n[bold]"
    path = tmp_path / "a.safetensors"
    training = TrainingRecord(options={hostile: hostile})
    save(path, {hostile: np.ones(2)}, Metadata(Kind.UPDATE, hostile, training=training))
    other = tmp_path / "b.safetensors"
    save(other, {hostile: np.zeros(2)}, Metadata(Kind.UPDATE, "r"))
    for words in ([path], [path, other]):
        done = fedcli("inspect", *words, cwd=tmp_path)
        assert done.status == 0
        assert not set("\x1b\x07\u202e") & set(done.out)
        assert "\\x1b" in done.out
        assert "[bold]" in done.out


def test_a_file_that_is_none_is_one_line(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "a.safetensors"
    for data in (b"", b"not a model", (2**63).to_bytes(8, "little") + b"{}", b"\2" + b"\0" * 7):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            inspect(path)
    with pytest.raises(NotReadyError):
        inspect(tmp_path / "nothing")
    for name in ("run.json", "rounds", "nothing"):
        done = fedcli("inspect", run.root / name, cwd=tmp_path)
        assert done.status in (3, 4)
        assert len(done.err.splitlines()) == 1
