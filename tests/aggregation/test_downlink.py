"""An encoded downlink: the round's model is the decoded one, and follows from deltas alone."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoded import codec_of
from support.own_code import write_module
from support.small_runs import SMALL, contents, of_slot, play, small_run

from fedcli.client.rebuild import drawn_model, rebuild_models, write_start_delta
from fedcli.codecs.feedback import decode_all
from fedcli.errors import BadInputError, CheckpointError, ConflictError, UsageError
from fedcli.formats.checkpoint import digest, save
from fedcli.formats.encoded import vector_of
from fedcli.formats.manifest import Manifest
from fedcli.formats.safetensors import layout_of
from fedcli.plan import AggregatePlan, Plan
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")
SPECS = ("float16", "int8", "round=0.07", "topk=0.1,float16", "randk=0.25", "sign")
# A frozen layer, a norm with buffers and a counter, and a layer under two names.
NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(144, num_classes)
        self.again = self.last

    def forward(self, x):
        return self.last(self.norm(self.conv(x)).relu().flatten(1))


def network(num_classes):
    return Net(num_classes)
"""


def run_of(root: Path, aggregation: AggregatePlan, model: str = "linear", **training: Any) -> Run:
    """A small run with the delta of its starting model."""
    plan = Plan(replace(SMALL, epochs=1, **training), aggregation)
    run = small_run(root, plan, model=model)
    _, said = contents(run.round(0).global_model)
    own = model if ":" in model else None
    start = drawn_model(run.info, own)
    said = replace(said, tied=start.tied or None)
    save(run.round(0).global_model, start.tensors, said)
    write_start_delta(run, said, digest(run.round(0).global_model))
    return run


def vector_in(run: Run, number: int) -> tuple[list[str], Any]:
    """The parameters of a model without frozen ones, and their vector."""
    values, said = contents(run.round(number).global_model)
    layout = layout_of({n: (v.dtype, v.shape) for n, v in values.items()})
    names = [name for name in layout if name not in said.roles]
    return names, vector_of(layout, tuple(names), run.info.seed, number)


def model(run: Run, number: int, names: list[str]) -> Any:
    values, _ = contents(run.round(number).global_model)
    return np.concatenate([values[name].reshape(-1) for name in names])


def client_copy(run: Run, root: Path, *, rounds: int) -> Run:
    """What a client has that received deltas alone."""
    root.mkdir()
    shutil.copy(run.root / "run.json", root)
    for number in range(rounds + 1):
        (root / f"rounds/{number:04d}").mkdir(parents=True)
        shutil.copy(run.round(number).delta, root / f"rounds/{number:04d}")
    return Run.open(root)


# --- the model of a round -------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_the_model_is_the_one_before_plus_the_decoded_step(tmp_path: Path, spec: str) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global=spec, feedback_global=0.5))
    plain = run_of(tmp_path / "plain", AggregatePlan())
    left: Any = np.float32(0)
    for number in (1, 2):
        play(run, 1, {}, {})
        shutil.rmtree(plain.root / "rounds")
        shutil.copytree(run.root / "rounds", plain.root / "rounds")
        names, vector = vector_in(run, number)
        exact = run_of_again(run, number)
        steps = exact - model(run, number - 1, names) + left
        codec = codec_of(spec)
        sent = decode_all(codec, codec.encode(steps, vector), vector)
        expected = model(run, number - 1, names) + sent
        assert model(run, number, names).tobytes() == expected.tobytes()
        left = np.float32(0.5) * (steps - sent)
        state, _ = contents(run.round(number).server_state)
        kept = of_slot(state, "residual")
        found = np.concatenate([kept[name].reshape(-1) for name in names])
        assert np.array_equal(found, left)


def run_of_again(run: Run, number: int) -> Any:
    """The parameters of the model that a round would have without an encoding."""
    copy = Run.open(shutil.copytree(run.root, run.root.with_name("again")))
    aggregate(
        copy, round_number=number, options={"encode_global": "float32", "feedback_global": 0.0},
        force=True,
    )  # fmt: skip
    assert not copy.round(number).delta.exists()
    values = model(copy, number, vector_in(copy, number)[0])
    shutil.rmtree(copy.root)
    return values


def test_without_an_encoding_there_is_no_delta_and_no_state(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    assert not run.round(1).delta.exists()
    assert not run.round(1).server_state.exists()
    assert "downlink" not in run.round(1).manifest.read_text()
    assert AggregatePlan(encode_global="float32") == AggregatePlan()


def test_nothing_is_lost_with_full_feedback(tmp_path: Path) -> None:
    """The sum of all decoded steps and the last residual is the sum of all steps."""
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="round=0.1", feedback_global=1.0))
    names, _ = vector_in(run, 0)
    steps: Any = np.zeros(len(model(run, 0, names)))
    for number in (1, 2, 3):
        play(run, 1, {}, {})
        steps += run_of_again(run, number).astype(np.float64) - model(run, number - 1, names)
    state, _ = contents(run.round(3).server_state)
    kept = np.concatenate([of_slot(state, "residual")[name].reshape(-1) for name in names])
    moved = model(run, 3, names).astype(np.float64) - model(run, 0, names)
    assert np.abs(moved + kept - steps).max() < 1e-6


# --- clients that have deltas alone ---------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_deltas_alone_give_the_same_bytes(tmp_path: Path, spec: str) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global=spec))
    play(run, 2, {}, {})
    away = client_copy(run, tmp_path / "away", rounds=2)
    assert [round_.number for round_ in rebuild_models(away)] == [0, 1, 2]
    for number in range(3):
        ours, theirs = away.round(number).global_model, run.round(number).global_model
        assert ours.read_bytes() == theirs.read_bytes()
    assert rebuild_models(away) == ()
    assert verify(away.root).sound


def test_frozen_tied_and_buffered_tensors_are_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(monkeypatch, tmp_path, "tied_network", NETWORK)
    name = "tied_network:network"
    plan = AggregatePlan(encode_global="round=0.2")
    run = run_of(tmp_path / "run", plan, name, freeze=("conv.*",), encode="round=0.5")
    from fedcli.steps.train_client import train_client

    train_client(run, ["all"], own_model=name)
    aggregate(run)
    away = client_copy(run, tmp_path / "away", rounds=1)
    rebuild_models(away, name)
    ours, theirs = away.round(1).global_model, run.round(1).global_model
    assert ours.read_bytes() == theirs.read_bytes()
    before, _ = contents(run.round(0).global_model)
    after, _ = contents(theirs)
    assert after["conv.weight"].tobytes() == before["conv.weight"].tobytes()
    assert after["again.weight"].tobytes() == after["last.weight"].tobytes()
    assert after["norm.num_batches_tracked"] == 3
    assert (after["norm.running_mean"] != before["norm.running_mean"]).any()


def test_another_base_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="int8"))
    play(run, 1, {}, {})
    away = client_copy(run, tmp_path / "away", rounds=1)
    values, said = contents(run.round(0).global_model)
    values["fc.bias" if "fc.bias" in values else next(iter(values))] += 1
    save(away.round(0).global_model, values, said)
    with pytest.raises(BadInputError, match="leads on from a model with SHA-256"):
        rebuild_models(away)
    assert not away.round(1).global_model.exists()


def test_another_seed_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="int8"))
    other = client_copy(run, tmp_path / "away", rounds=0)
    changed = Run(other.root, replace(run.info, seed=1), run.id)
    with pytest.raises(BadInputError, match="names a model with SHA-256"):
        rebuild_models(changed)
    assert not other.round(0).global_model.exists()


def test_each_changed_tensor_of_a_delta_is_found(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="round=0.1"))
    play(run, 1, {}, {})
    tensors, said = contents(run.round(1).delta)
    for name, values in tensors.items():
        away = client_copy(run, tmp_path / name.replace("/", "-"), rounds=1)
        rebuild_models(client_copy(run, tmp_path / f"{name.replace('/', '-')}-0", rounds=0))
        flipped = values.copy()
        # The lowest bits of a scale may vanish in rounding, and not every scale is in use.
        flipped.reshape(-1, 1).view(np.uint8)[:, -1] ^= 1
        save(away.round(1).delta, {**tensors, name: flipped}, said)
        with pytest.raises((BadInputError, CheckpointError)):
            rebuild_models(away)
        assert not away.round(1).global_model.exists()
        shutil.copy(away.round(1).delta, run.round(1).delta)
        assert not verify(run.root).sound
        save(run.round(1).delta, tensors, said)
    assert verify(run.root).sound


# --- repeated, verified, refused ------------------------------------------------------------------


def test_a_round_made_with_another_encoding_is_a_conflict(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="int8"))
    play(run, 1, {}, {})
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.downlink == {"encode_global": "int8"}
    assert manifest.delta == digest(run.round(1).delta)
    assert aggregate(run, round_number=1).already_done
    with pytest.raises(ConflictError, match="--encode-global int8"):
        aggregate(run, round_number=1, options={"encode_global": "sign"})


def test_replay_compares_the_delta_too(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", AggregatePlan(encode_global="round=0.1", feedback_global=1.0))
    play(run, 2, {}, {})
    assert verify(run.root, replay=UserCode()).sound


@pytest.mark.parametrize(
    "options", [{"encode_global": "zip"}, {"feedback_global": 0.5}, {"encode_global": "topk=2"}]
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="-global"):
        AggregatePlan(**options)
