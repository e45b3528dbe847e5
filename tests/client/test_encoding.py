"""Encoded updates as clients write them: each value, and what is lost and sent later."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.codec_oracle import reference, round_tensors
from support.encoded import codec_of
from support.own_code import write_module
from support.small_runs import SMALL, contents, facts, of_slot, play, small_run

from fedcli.codecs import Encoded, Vector
from fedcli.codecs.feedback import decode_all
from fedcli.errors import ConflictError, FedcliError, UsageError
from fedcli.formats.checkpoint import digest, save
from fedcli.formats.dtypes import BFLOAT16, as_float, from_float
from fedcli.formats.encoded import vector_of
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import layout_of
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.departures import Departures
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import train_client

pytestmark = pytest.mark.usefixtures("unsynced")
SPECS = ("float16", "int8", "round=0.07", "topk=0.1,float16", "randk=0.25", "sign")
# A norm without batches of one example: it has buffers and a counter.
NETWORK = """
from torch import nn


def network(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes)
    )


class Half(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1).bfloat16()).float()


def half(num_classes):
    return Half(192, num_classes).bfloat16()


class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Linear(192, 192)
        self.second = nn.Linear(192, 192)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(192, num_classes)

    def forward(self, x):
        return self.fc(self.second(self.first(x.flatten(1)[:, :192])))


tied = Tied
"""


def train(run: Run, client: str = "0", *, number: int | None = None, **options: Any) -> Any:
    force = options.pop("force", False)
    own = run.info.model.name if run.info.model.is_users_own else None
    return train_client(
        run,
        [client],
        round_number=number,
        options=options,
        execution=Execution(threads=1),
        own_model=own,
        force=force,
    )


def step_of(run: Run, number: int, client: str = "0") -> dict[str, Any]:
    """y − x of a training as it would be sent plainly, in float32, by tensor."""
    copy = Run.open(shutil.copytree(run.root, run.root.with_name("plain")))
    train(copy, client, number=number, encode="float32", force=True)
    y, _ = contents(copy.round(number).update(client))
    x, _ = contents(run.round(number - 1).global_model)
    shutil.rmtree(copy.root)
    return {name: as_float(y[name]) - as_float(x[name]) for name in y if name in x}


def vector_in(run: Run, number: int, steps: dict[str, Any]) -> tuple[tuple[str, ...], Vector]:
    """The parameters among these tensors in the order of their layout, and their vector."""
    model, said = contents(run.round(number - 1).global_model)
    layout = layout_of({name: (model[name].dtype, model[name].shape) for name in steps})
    names = tuple(name for name in layout if said.roles.get(name) is None)
    return names, vector_of(layout, names, run.info.seed, number)


def flat(steps: dict[str, Any], names: tuple[str, ...]) -> Any:
    return np.concatenate([steps[name].astype(np.float32).reshape(-1) for name in names])


def sent(run: Run, number: int, spec: str, vector: Vector, client: str = "0") -> Any:
    """c of an encoded update, by the codec alone."""
    found, said = contents(run.round(number).update(client))
    assert said.encoding == codec_of(spec).as_json()
    none = np.zeros((vector.chunks, codec_of(spec).columns), np.int32)
    table = found.get("encoded/table", none)
    scales = found.get("encoded/scales", np.zeros(0, np.float32))
    return decode_all(codec_of(spec), Encoded(table, found["encoded/data"], scales), vector)


def residual(run: Run, number: int, names: tuple[str, ...], client: str = "0") -> Any:
    return flat(of_slot(contents(run.round(number).client_state(client))[0], "residual"), names)


# --- one update ----------------------------------------------------------------------------------


def test_an_update_is_what_the_definitions_say_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds of a network with buffers and a counter, the second with a residual."""
    write_module(monkeypatch, tmp_path, "network_of_mine", NETWORK)
    plan = Plan(replace(SMALL, encode="round=0.07", feedback=0.5))
    run = small_run(tmp_path / "run", plan, clients=("0",), model="network_of_mine:network")
    left: Any = np.float32(0)
    for number in (1, 2):
        train(run)
        steps = step_of(run, number)
        names, vector = vector_in(run, number, steps)
        p = flat(steps, names) + left
        found, said = contents(run.round(number).update("0"))
        for name, values in round_tensors(p, "0.07").items():
            assert found[f"encoded/{name}"].tobytes() == values.tobytes(), name
        buffers = np.concatenate([steps["1.running_mean"], steps["1.running_var"]])
        assert found["encoded/buffers"].tobytes() == buffers.astype(np.float16).tobytes()
        assert found["encoded/counters"].tolist() == [6 * number]
        assert len(found) == 5
        assert said.roles == {}
        left = np.float32(0.5) * (p - reference("round=0.07", p, vector))
        assert residual(run, number, names).tobytes() == left.tobytes()
        aggregate(run)


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_decoded_is_what_the_encoding_stands_for(tmp_path: Path, spec: str) -> None:
    run = small_run(tmp_path / "run", Plan(replace(SMALL, encode=spec)), clients=("0",))
    train(run)
    steps = step_of(run, 1)
    names, vector = vector_in(run, 1, steps)
    expected = reference(spec, flat(steps, names), vector)
    assert sent(run, 1, spec, vector).tobytes() == expected.tobytes()
    assert not run.round(1).client_state("0").exists()
    aggregate(run)
    model, _ = contents(run.round(1).global_model)
    start, _ = contents(run.round(0).global_model)
    assert flat(model, names).tobytes() == (flat(start, names) + expected).tobytes()


@pytest.mark.parametrize("spec", SPECS)
def test_with_full_feedback_nothing_is_lost(tmp_path: Path, spec: str) -> None:
    """Σ c + e = Σ Δ, to rounding, over rounds of real training."""
    run = small_run(tmp_path / "run", Plan(replace(SMALL, encode=spec, feedback=1.0)))
    total: Any = 0.0
    meant: Any = 0.0
    for number in (1, 2, 3):
        train_client(run, ["all"], execution=Execution(threads=1))
        steps = step_of(run, number)
        names, vector = vector_in(run, number, steps)
        total += sent(run, number, spec, vector).astype(np.float64)
        meant += flat(steps, names).astype(np.float64)
        aggregate(run)
    left = residual(run, 3, names).astype(np.float64)
    assert np.abs(meant).max() > 1e-2
    np.testing.assert_allclose(total + left, meant, atol=1e-6)
    if spec != "float16":  # which loses hardly anything
        assert np.abs(total - meant).max() > 1e-4


def test_float32_gives_the_bytes_of_no_encoding(tmp_path: Path) -> None:
    runs = []
    for name, encode in (("said", "float32"), ("silent", None)):
        runs.append(small_run(tmp_path / name, Plan(replace(SMALL, encode=encode))))
        play(runs[-1], 2, {}, {})
    for path in ("run.json", "rounds/0002/updates/1.safetensors", "rounds/0002/global.safetensors"):
        assert (runs[0].root / path).read_bytes() == (runs[1].root / path).read_bytes()
    train(runs[0], encode="int8", feedback=0.0)
    assert not runs[0].round(3).client_state("0").exists()


# --- the residual --------------------------------------------------------------------------------


def with_feedback(root: Path, **more: Any) -> Run:
    return small_run(root, Plan(replace(SMALL, encode="topk=0.05", feedback=1.0, **more)))


def test_training_again_starts_from_the_residual_of_the_round_before(tmp_path: Path) -> None:
    run = with_feedback(tmp_path / "run")
    play(run, 1, {}, {})
    train(run)
    assert facts(run, 2, "0")["state"] == digest(run.round(1).client_state("0"))
    files = (run.round(2).update("0"), run.round(2).client_state("0"))
    before = [path.read_bytes() for path in files]
    train(run, force=True)
    assert [path.read_bytes() for path in files] == before
    files[1].unlink()
    assert not train(run).clients[0].already_done
    assert [path.read_bytes() for path in files] == before
    train(run, force=True, feedback=0.0)
    assert not files[1].exists()


def test_a_client_that_was_away_adds_its_residual_when_it_is_back(tmp_path: Path) -> None:
    run = with_feedback(tmp_path / "run")
    play(run, 1, {}, {})
    play(run, 2, {}, {}, clients=["1,2"])
    train(run)
    assert facts(run, 4, "0")["state"] == digest(run.round(1).client_state("0"))
    train(run, force=True, encode="float32")  # sends everything, and so leaves the residual
    assert "state" not in facts(run, 4, "0")
    aggregate(run, min_clients=1)
    train(run)
    assert facts(run, 5, "0")["state"] == digest(run.round(1).client_state("0"))


@pytest.mark.parametrize(("strategy", "start"), [("fedavg", 1), ("fedbuff", 2)])
def test_what_went_into_an_update_that_was_left_out_is_still_to_be_sent(
    tmp_path: Path, strategy: str, start: int
) -> None:
    """Where late updates count, the update may still be used."""
    plan = Plan(
        replace(SMALL, encode="topk=0.05", feedback=1.0), AggregatePlan(strategy=strategy, buffer=2)
    )
    if strategy == "fedavg":
        plan = replace(plan, aggregate=AggregatePlan())
    run = small_run(tmp_path / "run", plan)
    for exclude in ((), ("0",)):
        train_client(run, ["all"], execution=Execution(threads=1))
        aggregate(run, exclude=exclude)
    train(run)
    assert facts(run, 3, "0")["state"] == digest(run.round(start).client_state("0"))


def test_a_residual_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    run = with_feedback(tmp_path / "run")
    play(run, 1, {}, {})
    state, said = contents(run.round(1).client_state("0"))
    state["residual/fc.weight"][0, 3] = np.inf
    save(run.round(1).client_state("0"), state, said)
    with pytest.raises(FedcliError, match=r"'fc\.weight': its change is NaN or infinite"):
        train(run)
    assert not run.round(2).update("0").exists()


# --- beside other options ------------------------------------------------------------------------


def test_a_client_may_leave_the_planned_encoding(tmp_path: Path) -> None:
    run = with_feedback(tmp_path / "run")
    train(run, encode="int8", feedback=0.25)
    said = facts(run, 1, "0")
    assert (said["encode"], said["feedback"]) == ("int8", 0.25)
    words = "encode int8, not topk=0.05,float32, --feedback 0.25, not 1"
    with pytest.raises(ConflictError, match=words):
        train(run)
    train(run, "1", encode="float32")
    assert not facts(run, 1, "1").keys() & {"encode", "feedback"}
    with pytest.raises(
        ConflictError, match=r"\(--encode float32, not sign, --feedback none, not 1"
    ):
        train(run, "1", encode="sign")
    aggregate(run, min_clients=2)
    left = [
        Departures(run.info.plan.train, 1).of(contents(run.round(1).update(client))[1].training)
        for client in ("0", "1")
    ]
    assert left == [{"encode": "int8", "feedback": 0.25}, {"encode": "float32", "feedback": None}]


def test_what_a_codec_cannot_hold_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(replace(SMALL, lr=1e7, encode="float16")))
    with pytest.raises(UsageError, match=r"--encode float16: client 0: its largest value, .* fit"):
        train(run)
    assert not run.round(1).update("0").exists()


@pytest.mark.parametrize("spec", ["round=0.07", "randk=0.25", "sign"])
def test_the_servers_control_is_the_mean_of_the_clients_own(tmp_path: Path, spec: str) -> None:
    """Whatever the encoding of their changes loses, also where an update was left out."""
    run = small_run(tmp_path / "run", Plan(replace(SMALL, encode=spec)))
    scaffold = ({"algorithm": "scaffold"}, {"strategy": "scaffold"})
    play(run, 1, *scaffold)
    play(run, 1, *scaffold, exclude=["1"])
    _, said = contents(run.round(2).update("0"))
    assert set(said.roles.values()) == {Role.CONTROL}
    kept = [
        of_slot(contents(run.round(number).client_state(client))[0], "control")
        for client, number in (("0", 2), ("1", 1), ("2", 2))
    ]
    server = of_slot(contents(run.round(2).server_state)[0], "control")
    assert np.abs(server["fc.weight"]).max() > 1e-3
    for name, values in server.items():
        mean = np.mean([own[name].astype(np.float64) for own in kept], axis=0)
        np.testing.assert_allclose(values, mean, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"freeze": ("fc.bias",)}, {"local_layers": ("fc.bias",)}, {"algorithm": "ditto"}]
)
def test_frozen_and_local_layers_are_not_encoded(tmp_path: Path, options: dict[str, Any]) -> None:
    run = with_feedback(tmp_path / "run", **options)
    play(run, 2, {}, {})
    state, _ = contents(run.round(2).client_state("0"))
    withheld = {"fc.bias"} if "algorithm" not in options else set()
    assert of_slot(state, "residual").keys() == {"fc.bias", "fc.weight"} - withheld
    model, start = (contents(run.round(number).global_model)[0] for number in (2, 0))
    assert not withheld or (model["fc.bias"] == start["fc.bias"]).all()
    assert not (model["fc.weight"] == start["fc.weight"]).all()


def test_weights_in_half_precision_are_encoded_in_single(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(monkeypatch, tmp_path, "network_of_mine", NETWORK)
    plan = Plan(replace(SMALL, encode="round=0.2", feedback=1.0))
    run = small_run(tmp_path / "run", plan, clients=("0",), model="network_of_mine:half")
    train(run)
    steps = {name: values.astype(np.float32) for name, values in step_of(run, 1).items()}
    names, vector = vector_in(run, 1, steps)
    p = flat(steps, names)
    assert (
        sent(run, 1, "round=0.2", vector).tobytes() == reference("round=0.2", p, vector).tobytes()
    )
    assert residual(run, 1, names).any()
    aggregate(run)


def test_a_tensor_of_two_names_is_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    write_module(monkeypatch, tmp_path, "network_of_mine", NETWORK)
    words = ("--model", "network_of_mine:tied", "--limit", 60, "--clients", 1)
    training = ("--epochs", 1, "--encode", "int8", "--feedback", 1)
    assert cli("partition", *words, *training)[0] == 0
    assert cli("train-client", "--id", 0, "--model", "network_of_mine:tied")[0] == 0
    run = Run.open(tmp_path / "fedrun")
    state, _ = contents(run.round(1).client_state("0"))
    found, said = contents(run.round(1).update("0"))
    assert said.tied == {"second.weight": "first.weight"}
    once = 192 * 192 + 2 * 192 + 193 * len(run.info.dataset.classes)
    assert len(found["encoded/data"]) == sum(values.size for values in state.values()) == once
    assert "residual/second.weight" not in state
    assert cli("aggregate")[0] == 0
    model, _ = contents(run.round(1).global_model)
    assert (model["first.weight"] == model["second.weight"]).all()


def test_adapters_are_encoded_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--model", "cnn", "--lora", 2, "--limit", 60, "--clients", 1)
    training = ("--epochs", 1, "--encode", "topk=0.5", "--feedback", 1)
    assert cli("partition", *words, *training)[0] == 0
    assert cli("train-client", "--id", 0)[0] == 0
    run = Run.open(tmp_path / "fedrun")
    state, _ = contents(run.round(1).client_state("0"))
    names = of_slot(state, "residual").keys()
    assert any("lora" in name for name in names)
    assert not {"conv1.weight", "conv2.weight"} & names
    assert cli("aggregate")[0] == 0
    model, start = (contents(run.round(number).global_model)[0] for number in (1, 0))
    changed = {name for name in start if not (model[name] == start[name]).all()}
    assert changed
    assert changed <= names


@pytest.mark.parametrize("spec", SPECS)
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path: Path, spec: str) -> None:
    """Of the encoding: a training may round differently, so both encode the same one."""
    p = np.random.default_rng(0).standard_normal(200_000, np.float32)
    vector, found = Vector((150_000, 50_000), 3), set()
    before = torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        with ThreadPoolExecutor(threads) as pool:
            for one in pool.map(lambda _: codec_of(spec).encode(p, vector), range(threads)):
                found.add(one.table.tobytes() + one.data.tobytes() + one.scales.tobytes())
    torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype("<f2"), np.dtype("<f8")])
def test_a_state_in_another_precision_is_read_as_its_values(tmp_path: Path, dtype: Any) -> None:
    """Another program may have written it."""
    plan = Plan(replace(SMALL, encode="int8", feedback=1.0, algorithm="scaffold"))
    run = small_run(tmp_path / "run", plan, clients=("0",))
    play(run, 1, {}, {"strategy": "scaffold"})
    state, said = contents(run.round(1).client_state("0"))
    coarse = {name: from_float(v.astype(np.float64), dtype) for name, v in state.items()}
    save(run.round(1).client_state("0"), coarse, said)
    train(run)
    found, _ = contents(run.round(2).client_state("0"))
    assert {values.dtype for values in found.values()} == {np.dtype("<f4")}
