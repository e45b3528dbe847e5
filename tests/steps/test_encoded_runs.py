"""Runs with encoded updates: what commands other than training and aggregating make of them."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoded import encode_update
from support.handmade import loaded, new_run, same_bits, wide
from support.runs import deliver, fedcli
from support.small_runs import SMALL, THREE, contents, play, small_run

from fedcli.errors import CheckpointError
from fedcli.evaluation.candidates import update_models
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.encoded import Parts
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.steps.gc import gc
from fedcli.steps.inspect import compare, inspect
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds of three clients, encoded both times, with feedback."""
    root = tmp_path_factory.mktemp("encoded") / "run"
    plan = Plan(replace(SMALL, encode="round=0.07", feedback=0.5))
    run = small_run(root, plan, model="cnn")
    play(run, 2, {}, {})
    return root


@pytest.fixture
def run(played: Path, tmp_path: Path) -> Run:
    shutil.copytree(played, tmp_path / "run")
    return Run.open(tmp_path / "run")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, dict[str, Any], dict[str, Any]]:
    """A run with one encoded update: what the client had, and what its update stands for."""
    made = new_run(tmp_path / "run", wide(0), ("0", "1"))
    deliver(made, "0", wide(1))
    return made, wide(1), encode_update(made, made.round(1).update("0"), "round=0.1")


def test_inspect_shows_the_model_that_an_encoded_update_stands_for(
    pair: tuple[Run, dict[str, Any], dict[str, Any]],
) -> None:
    run, _, meant = pair
    path, base = run.round(1).update("0"), loaded(run.round(0).global_model)
    found = inspect(path)
    assert {tensor.name: tensor.shape for tensor in found.tensors} == {
        name: values.shape for name, values in meant.items()
    }
    roles = {tensor.name: tensor.role for tensor in found.tensors}
    assert roles["bn.running_mean"] == "buffer"
    for tensor in found.tensors:
        norm = np.linalg.norm(meant[tensor.name].astype(np.float64))
        assert tensor.figures.norm == pytest.approx(norm, rel=1e-9)
    assert found.encoding is not None
    with Checkpoint(run.round(0).global_model) as model:
        names = Parts.of(model.layout, model.metadata.roles).parameters
    steps = [meant[name].astype(np.float64) - base[name] for name in names]
    count = sum(step.size for step in steps)
    assert found.encoding.spec == "round=0.1"
    assert found.encoding.bits == pytest.approx(8 * path.stat().st_size / count)
    norm = math.sqrt(sum(float((step**2).sum()) for step in steps))
    assert found.encoding.norm == pytest.approx(norm, rel=1e-9)
    assert found.encoding.nmse is None


def test_inspect_knows_what_was_lost_where_the_residual_is(run: Run) -> None:
    for number in (1, 2):
        found = inspect(run.round(number).update("1")).encoding
        state, _ = contents(run.round(number).client_state("1"))
        left = np.concatenate(
            [
                values.reshape(-1).astype(np.float64) / 0.5
                for name, values in sorted(state.items())
                if name.startswith("residual/")
            ]
        )
        assert found is not None
        assert found.nmse is not None
        assert found.norm is not None
        # the coordinates that were sent lost little: c and p − c are nearly orthogonal
        nearly = left @ left / (left @ left + found.norm**2)
        assert found.nmse == pytest.approx(nearly, rel=0.1)
        assert 0.02 < found.nmse < 0.98
        run.round(number).client_state("1").unlink()
        found = inspect(run.round(number).update("1")).encoding
        assert found is not None
        assert found.nmse is None


def test_inspect_shows_an_encoded_update_elsewhere_as_it_is(
    pair: tuple[Run, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    run, _, _ = pair
    copy = Path(shutil.copy(run.round(1).update("0"), tmp_path / "copy.safetensors"))
    found = inspect(copy)
    assert "encoded/data" in {tensor.name for tensor in found.tensors}
    assert found.encoding is not None
    assert (found.encoding.spec, found.encoding.bits) == ("round=0.1", None)
    assert found.sha256 == inspect(run.round(1).update("0")).sha256
    run.round(0).global_model.unlink()
    found = inspect(run.round(1).update("0"))
    assert "encoded/data" in {tensor.name for tensor in found.tensors}


def test_the_command_prints_encoding_and_step(run: Run, tmp_path: Path) -> None:
    path = run.round(1).update("0")
    shown = fedcli("inspect", path, cwd=tmp_path, COLUMNS="200").out
    assert "round=0.07, " in shown
    assert " bits per parameter" in shown
    assert "as it was sent" in shown
    assert "NMSE 0." in shown
    said = fedcli("inspect", path, "--json", cwd=tmp_path).json
    assert said["encoding"]["spec"] == "round=0.07"
    copy = shutil.copy(path, tmp_path / "copy.safetensors")
    assert "tensors are as in the file" in fedcli("inspect", copy, cwd=tmp_path, COLUMNS="200").out


def test_compare_compares_what_updates_stand_for(
    pair: tuple[Run, dict[str, Any], dict[str, Any]],
) -> None:
    run, values, meant = pair
    deliver(run, "1", values)
    found = compare(run.round(1).update("0"), run.round(1).update("1"))
    assert found.first_only == found.second_only == found.other_shape == ()
    different = {tensor.name: tensor.different for tensor in found.tensors}
    expected = {name: int(np.sum(meant[name] != values[name])) for name in values}
    assert different["a.weight"] == expected["a.weight"] > 0
    assert found.cosine is not None
    deliver(run, "1", meant)
    found = compare(run.round(1).update("0"), run.round(1).update("1"))
    assert not any(tensor.different for tensor in found.tensors)


@pytest.mark.parametrize("step", [inspect, lambda path: compare(path, path)])
def test_a_damaged_update_is_named(
    pair: tuple[Run, dict[str, Any], dict[str, Any]], step: Any
) -> None:
    run, _, _ = pair
    path = run.round(1).update("0")
    with Checkpoint(path) as update:
        tensors, said = update.tensors(), update.metadata
    save(path, {**tensors, "encoded/data": np.zeros_like(tensors["encoded/data"])}, said)
    with pytest.raises(CheckpointError, match="a stream of its encoding is damaged") as e:
        step(path)
    assert e.value.path == path


def test_encoded_updates_are_scored_as_models(run: Run) -> None:
    for model in update_models(StateStore(run), "all", THREE):
        values = model.read()
        base = loaded(run.round(model.round.number - 1).global_model)
        assert values.keys() == base.keys()
        same = [np.mean(values[n] == base[n]) for n in values if values[n].dtype == np.float32]
        assert 0.5 < np.average(same) < 1


def test_verify_decodes_encoded_updates(run: Run) -> None:
    assert verify(run.root).sound
    path = run.round(2).update("1")
    with Checkpoint(path) as update:
        tensors, said = update.tensors(), update.metadata
    save(path, {**tensors, "encoded/data": np.zeros_like(tensors["encoded/data"])}, said)
    result = verify(run.root)
    assert not result.sound
    messages = [f.message for f in result.findings if f.file.endswith("updates/1.safetensors")]
    assert any("a stream of its encoding is damaged" in message for message in messages)


def test_verify_says_that_an_encoded_update_needs_its_base(run: Run) -> None:
    run.round(0).global_model.unlink()
    said = [f for f in verify(run.root).findings if "cannot be decoded without" in f.message]
    assert len(said) == len(THREE)


def test_replay_makes_encoded_rounds_again(run: Run) -> None:
    result = verify(run.root, replay=UserCode())
    assert result.sound
    assert [finding.file for finding in result.findings] == ["data"]  # shards without a partition
    replayed = {part.what: part.sound for part in result.parts if "again" in part.what}
    assert replayed == {"aggregated again": 2, "trained again": 2 * len(THREE)}


def test_other_commands_know_encoded_runs(run: Run, tmp_path: Path) -> None:
    where = ("--run", run.root)
    for words in (["status"], ["report"], ["export", "--output", tmp_path / "m.safetensors"]):
        assert fedcli(*words, *where, cwd=tmp_path).status == 0, words
    before = loaded(run.round(2).global_model)
    gc(run, 1)
    same_bits(before, loaded(run.round(2).global_model))
