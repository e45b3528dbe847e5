"""Rounds of clients that keep a state: what they start from, and what they are refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_runs import SMALL, THREE, contents, facts, of_slot, play, small_run

from fedcli.aggregation.server_state import read_slot
from fedcli.algorithms import ALGORITHMS
from fedcli.errors import BadInputError, ConflictError, NotReadyError, UsageError
from fedcli.formats.checkpoint import digest, save
from fedcli.formats.manifest import Manifest
from fedcli.plan import Plan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import TrainClientResult, train_client

pytestmark = pytest.mark.usefixtures("unsynced")
SCAFFOLD: tuple[dict[str, Any], dict[str, Any]] = (
    {"algorithm": "scaffold"},
    {"strategy": "scaffold"},
)
UNIFORM = {"weighting": "uniform"}
STATEFUL = [name for name, row in ALGORITHMS.items() if row.keeps is not None]


def strategy_of(algorithm: str) -> dict[str, Any]:
    return {"strategy": ALGORITHMS[algorithm].strategy}


def train(run: Run, client: str, state: Path | None = None, **options: Any) -> TrainClientResult:
    force, number = options.pop("force", False), options.pop("number", None)
    execution = Execution(threads=1, state=state)
    return train_client(
        run, [client], round_number=number, options=options, execution=execution, force=force
    )


# --- whole rounds that are FedAvg's --------------------------------------------------------------

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fedprox": ({"algorithm": "fedprox", "mu": 0.0}, UNIFORM),
    "fednova with equal steps": ({"algorithm": "fednova"}, {"strategy": "fednova"}),
    "feddyn": ({"algorithm": "feddyn", "feddyn_alpha": 0.0}, {"strategy": "feddyn"}),
    "moon": ({"algorithm": "moon", "mu": 0.0}, UNIFORM),
    "ditto": ({"algorithm": "ditto", "ditto_lambda": 0.0}, UNIFORM),
}


@pytest.mark.parametrize(("training", "aggregation"), SAME.values(), ids=SAME)
def test_two_rounds_are_those_of_fedavg_to_the_bit(
    tmp_path: Path, training: dict[str, Any], aggregation: dict[str, Any]
) -> None:
    # without momentum FedNova's lengths are whole numbers, and so their ratio is 1 to the bit
    plan = Plan(replace(SMALL, momentum=0.0))
    ours, fedavg = (small_run(tmp_path / name, plan, model="cnn") for name in ("ours", "fedavg"))
    play(ours, 2, training, aggregation)
    play(fedavg, 2, {}, {} if training["algorithm"] == "fednova" else UNIFORM)
    (a, _), (b, _) = (contents(run.round(2).global_model) for run in (ours, fedavg))
    assert a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in b)


def test_scaffold_with_one_client_is_fedavg(tmp_path: Path) -> None:
    """From the third round on to rounding: c + (c₂ - c₁) is not c₂ to the bit."""
    ours, fedavg = (small_run(tmp_path / name, clients=("0",)) for name in ("ours", "fedavg"))
    for number in (1, 2, 3, 4):
        play(ours, 1, *SCAFFOLD)
        play(fedavg, 1, {}, {})
        (a, _), (b, _) = (contents(run.round(number).global_model) for run in (ours, fedavg))
        for name in b:
            assert number > 2 or a[name].tobytes() == b[name].tobytes()
            np.testing.assert_allclose(a[name], b[name], atol=1e-6)


# --- SCAFFOLD's two halves -----------------------------------------------------------------------


def servers_control(run: Run) -> dict[str, Any]:
    return read_slot(run, run.open_round().number, "control")[0]


def mean_control(run: Run, rounds: dict[str, int]) -> dict[str, Any]:
    """The mean of what the clients kept in these rounds, over all clients of the run."""
    kept = [
        of_slot(contents(run.round(number).client_state(client))[0], "control")
        for client, number in rounds.items()
    ]
    total = len(run.info.clients)
    return {name: np.sum([k[name].astype(float) for k in kept], axis=0) / total for name in kept[0]}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert max(np.abs(values).max() for values in expected.values()) > 1e-3
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize("option", [1, 2])
def test_the_servers_control_is_the_mean_of_the_clients(tmp_path: Path, option: int) -> None:
    run = small_run(tmp_path / "run")
    for number in (1, 2, 3):
        play(run, 1, {"algorithm": "scaffold", "scaffold_option": option}, SCAFFOLD[1])
        assert_equal(servers_control(run), mean_control(run, dict.fromkeys(THREE, number)))


def test_it_is_also_when_clients_are_missing_or_left_out(tmp_path: Path) -> None:
    """A state whose update did not go into the model is passed over for the one before."""
    run = small_run(tmp_path / "run")
    play(run, 1, *SCAFFOLD, clients=["0,1"])
    assert_equal(servers_control(run), mean_control(run, {"0": 1, "1": 1}))
    play(run, 1, *SCAFFOLD, exclude=["1", "2"])
    assert_equal(servers_control(run), mean_control(run, {"0": 2, "1": 1}))
    play(run, 1, *SCAFFOLD)
    assert_equal(servers_control(run), mean_control(run, dict.fromkeys(THREE, 3)))
    assert facts(run, 3, "1")["state"] == digest(run.round(1).client_state("1"))
    assert "state" not in facts(run, 3, "2")


def test_after_rounds_of_another_strategy_both_halves_start_anew(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, *SCAFFOLD)
    play(run, 1, {}, {})
    play(run, 1, *SCAFFOLD)
    assert not facts(run, 3, "0").keys() & {"state", "server_state"}
    assert_equal(servers_control(run), mean_control(run, dict.fromkeys(THREE, 3)))


def test_layers_of_the_client_stay_when_the_halves_start_anew(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    local = {"local_layers": ("fc.bias",)}
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1])
    play(run, 1, local, {})
    store = StateStore(run)
    assert store.before(3, "0", "control", server_optimizer="scaffold") is None
    state = store.before(3, "0", "local")
    assert state is not None
    kept, _ = contents(run.round(2).client_state("0"))
    assert {n: v.tobytes() for n, v in state.slot("local").items()} == {
        n: v.tobytes() for n, v in of_slot(kept, "local").items()
    }
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1], exclude=["0"])
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1])
    assert "state" in facts(run, 4, "0")


# --- which state a round starts from -------------------------------------------------------------


@pytest.mark.parametrize("algorithm", STATEFUL)
def test_a_round_starts_from_the_state_of_the_one_before(tmp_path: Path, algorithm: str) -> None:
    run = small_run(tmp_path / "run")
    options, rule = {"algorithm": algorithm}, strategy_of(algorithm)
    play(run, 1, options, rule)
    assert "state" not in facts(run, 1, "0")
    state, metadata = contents(run.round(1).client_state("0"))
    assert {name.partition("/")[0] for name in state} == {ALGORITHMS[algorithm].keeps}
    assert (metadata.run, metadata.round, metadata.client) == (run.id, 1, "0")
    assert metadata.base == digest(run.round(0).global_model)
    train(run, "0", **options)
    before = {path: path.read_bytes() for path in of_round_2(run)}
    assert facts(run, 2, "0")["state"] == digest(run.round(1).client_state("0"))
    assert train(run, "0", **options).clients[0].already_done
    train(run, "0", **options, force=True)  # from round 1's state again, not from round 2's
    assert {path: path.read_bytes() for path in of_round_2(run)} == before
    run.round(1).client_state("0").unlink()
    run.round(1).update("0").unlink()
    train(run, "0", **options, force=True)
    assert all(path.read_bytes() != content for path, content in before.items())


def of_round_2(run: Run) -> list[Path]:
    return [run.round(2).update("0"), run.round(2).client_state("0")]


def test_a_client_that_was_away_starts_from_its_newest_state(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "moon"}, {})
    play(run, 2, {"algorithm": "moon"}, {}, clients=["1,2"])
    shutil.rmtree(run.round(0).path)  # a client need not keep the models of old rounds
    train(run, "0", algorithm="moon")
    assert facts(run, 4, "0")["state"] == digest(run.round(1).client_state("0"))


@pytest.mark.parametrize("algorithm", STATEFUL)
def test_alone_or_with_others_the_bytes_are_the_same(tmp_path: Path, algorithm: str) -> None:
    options, rule = {"algorithm": algorithm}, strategy_of(algorithm)
    together, alone = small_run(tmp_path / "together"), small_run(tmp_path / "alone")
    play(together, 2, options, rule)
    for _ in range(2):
        for client in ("2", "0", "1"):
            train(alone, client, **options)
        aggregate(alone, options=rule)
    for client in THREE:
        for one, other in (
            (together.round(2).update(client), alone.round(2).update(client)),
            (together.round(2).client_state(client), alone.round(2).client_state(client)),
        ):
            assert one.read_bytes() == other.read_bytes()


def test_a_lost_state_of_a_delivered_update_is_made_again(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    train(run, "0", algorithm="ditto")
    update, state = run.round(1).update("0"), run.round(1).client_state("0")
    before = (update.read_bytes(), state.read_bytes())
    state.unlink()
    assert not train(run, "0", algorithm="ditto").clients[0].already_done
    assert (update.read_bytes(), state.read_bytes()) == before


def test_so_it_is_of_a_complete_round_whose_update_is_not_touched(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "ditto"}, {})
    update, state = run.round(1).update("0"), run.round(1).client_state("0")
    before = (update.read_bytes(), update.stat().st_mtime_ns, state.read_bytes())
    state.unlink()
    with pytest.raises(NotReadyError, match=r"client 0 kept it when it trained round 1") as caught:
        train(run, "0", algorithm="ditto")
    assert "--state DIR" in (caught.value.hint or "")
    assert "train-client --id 0 --round 1" in (caught.value.hint or "")
    train(run, "0", algorithm="ditto", number=1)
    assert (update.read_bytes(), update.stat().st_mtime_ns, state.read_bytes()) == before
    with pytest.raises(ConflictError, match="round 1 is complete"):
        train(run, "0", algorithm="ditto", number=1, force=True)


def with_the_state_of(run: Run, **options: Any) -> None:
    """Bring the state of another training here, and not its update."""
    other = Run.open(shutil.copytree(run.root, run.root.with_name("other")))
    train(other, "0", force=True, **options)
    state = run.round(1).client_state("0")
    state.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(other.round(1).client_state("0"), state)


def test_a_state_and_an_update_of_different_trainings_are_no_pair(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    train(run, "0", algorithm="moon")
    before = run.round(1).client_state("0").read_bytes()
    with_the_state_of(run, algorithm="moon", lr=0.1)
    assert run.round(1).client_state("0").read_bytes() != before
    assert not train(run, "0", algorithm="moon").clients[0].already_done
    assert run.round(1).client_state("0").read_bytes() == before
    assert train(run, "0", algorithm="moon").clients[0].already_done


def test_a_later_round_refuses_such_a_pair_until_it_is_made_again(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", clients=("0",))
    train(run, "0", algorithm="moon")
    with_the_state_of(run, algorithm="moon", lr=0.1)
    aggregate(run)
    with pytest.raises(BadInputError, match="does not go with the update of client 0") as caught:
        train(run, "0", algorithm="moon")
    assert "train-client --id all --round 1" in (caught.value.hint or "")
    update = run.round(1).update("0").read_bytes()
    train(run, "0", algorithm="moon", number=1)
    assert run.round(1).update("0").read_bytes() == update
    train(run, "0", algorithm="moon")
    assert facts(run, 2, "0")["state"] == digest(run.round(1).client_state("0"))


def test_a_state_that_another_machine_made_again_goes_with_the_old_update(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", clients=("0",))
    execution = Execution(threads=2)
    train_client(run, ["0"], options={"algorithm": "moon"}, execution=execution)
    aggregate(run)
    run.round(1).client_state("0").unlink()
    torch.set_num_threads(1)  # what the machine chooses
    train_client(run, ["0"], round_number=1, options={"algorithm": "moon"}, execution=Execution())
    train(run, "0", algorithm="moon")
    assert facts(run, 2, "0")["state"] == digest(run.round(1).client_state("0"))


@pytest.mark.parametrize("before", [True, False], ids=["replaced", "interrupted"])
def test_a_training_that_keeps_nothing_leaves_no_state(tmp_path: Path, before: bool) -> None:
    run = small_run(tmp_path / "run", clients=("0",))
    if before:
        train(run, "0", algorithm="moon")
    else:
        with_the_state_of(run, algorithm="moon")
    assert run.round(1).client_state("0").exists()
    train(run, "0", force=True)
    assert not run.round(1).client_state("0").exists()
    aggregate(run)
    train(run, "0", algorithm="moon")
    assert "state" not in facts(run, 2, "0")


def test_another_algorithm_in_between_loses_nothing(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", clients=("0",))
    local = {"local_layers": ("fc.bias",)}
    play(run, 1, {"algorithm": "feddyn", **local}, {"strategy": "feddyn"})
    for algorithm in ("ditto", "moon", "ditto", "moon"):
        play(run, 1, {"algorithm": algorithm}, {})
    states = {n: digest(run.round(n).client_state("0")) for n in (1, 2, 3)}
    assert [facts(run, n, "0").get("state") for n in (2, 3, 4, 5)] == [
        None,
        None,
        states[2],
        states[3],
    ]
    train(run, "0", **local)
    assert facts(run, 6, "0")["state"] == states[1]


def test_an_update_names_both_states_that_it_was_made_from(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    local = {"local_layers": ("fc.bias",)}
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1])
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1], exclude=["0"])
    play(run, 1, {**SCAFFOLD[0], **local}, SCAFFOLD[1])
    one, two = (digest(run.round(number).client_state("0")) for number in (1, 2))
    assert facts(run, 3, "0")["state"] == [one, two]
    assert facts(run, 3, "1")["state"] == digest(run.round(2).client_state("1"))


def test_a_training_left_off_goes_when_its_update_is_there(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    train(run, "0")
    training_checkpoint = run.round(1).training_checkpoint("0")
    training_checkpoint.parent.mkdir()
    training_checkpoint.write_bytes(b"left by a kill")
    assert train(run, "0").clients[0].already_done
    assert not training_checkpoint.parent.exists()


# --- FedDyn's α ----------------------------------------------------------------------------------


def test_feddyn_with_an_alpha_of_0_is_fedavg_after_any_other_round(tmp_path: Path) -> None:
    plan = Plan(replace(SMALL, momentum=0.0))
    ours, fedavg = (small_run(tmp_path / name, plan) for name in ("ours", "fedavg"))
    for run in (ours, fedavg):
        play(run, 2, {"algorithm": "feddyn", "feddyn_alpha": 0.3}, {"strategy": "feddyn"})
    play(ours, 2, {"algorithm": "feddyn", "feddyn_alpha": 0.0}, {"strategy": "feddyn"})
    play(fedavg, 2, {}, UNIFORM)
    (a, _), (b, _) = (contents(run.round(4).global_model) for run in (ours, fedavg))
    assert all(a[name].tobytes() == b[name].tobytes() for name in b)


def test_another_alpha_starts_both_halves_of_feddyn_anew(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    rule = {"strategy": "feddyn"}
    play(run, 2, {"algorithm": "feddyn", "feddyn_alpha": 0.3}, rule)
    assert contents(run.round(2).server_state)[1].steps == 2
    assert "state" in facts(run, 2, "0")
    play(run, 1, {"algorithm": "feddyn", "feddyn_alpha": 0.2}, rule)
    assert contents(run.round(3).server_state)[1].steps == 1
    assert "state" not in facts(run, 3, "0")
    play(run, 1, {"algorithm": "feddyn", "feddyn_alpha": 0.2}, rule)
    assert contents(run.round(4).server_state)[1].steps == 2
    assert facts(run, 4, "0")["state"] == digest(run.round(3).client_state("0"))


# --- lengths and rates that cannot be divided by -------------------------------------------------


@pytest.mark.parametrize("algorithm", ["scaffold", "fednova"])
def test_steps_that_lead_nowhere_are_refused_before_they_are_taken(
    tmp_path: Path, algorithm: str
) -> None:
    run = small_run(tmp_path / "run")
    with pytest.raises(UsageError, match=f"--proximal 3: {algorithm} divides by the length"):
        train(run, "0", algorithm=algorithm, lr=1.0, proximal=3.0, momentum=0.0, steps=2)


def test_a_rate_that_has_come_down_to_0_is_refused(tmp_path: Path) -> None:
    plan = replace(SMALL, lr_schedule="exponential", lr_decay=1e-200)
    run = small_run(tmp_path / "run", Plan(plan), clients=("0",))
    play(run, 2, {}, {})
    with pytest.raises(UsageError, match="--lr, --lr-decay: the learning rate of round 3 is 0"):
        train(run, "0")


def test_the_memory_of_each_client_is_counted_from_its_own_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    name = "fedcli.client.train_one.reset_peak_memory"
    monkeypatch.setattr(name, lambda device: found.append(str(device)))
    run = small_run(tmp_path / "run")
    train_client(run, ["all"], execution=Execution(device="cpu", threads=1))
    assert found == ["cpu"] * 3


# --- a folder of the client's own ----------------------------------------------------------------


def test_state_can_stay_out_of_the_run(tmp_path: Path) -> None:
    run, inside = small_run(tmp_path / "run"), small_run(tmp_path / "inside")
    own = tmp_path / "own"
    play(run, 2, {"algorithm": "ditto"}, {}, state=own)
    play(inside, 2, {"algorithm": "ditto"}, {})
    assert not list(run.root.glob("rounds/*/client_state"))
    assert not list(inside.root.parent.glob("own/*/*/training"))
    store = StateStore(run, own)
    for client in THREE:
        kept = store.path(2, client)
        assert kept.read_bytes() == inside.round(2).client_state(client).read_bytes()
        assert own in kept.parents
    with pytest.raises(NotReadyError, match="client 0 kept it when it trained round 2"):
        train(run, "0", algorithm="ditto")  # the folder was forgotten
    train(run, "0", own, algorithm="ditto")
    assert facts(run, 3, "0")["state"] == digest(store.path(2, "0"))


def test_two_runs_can_have_their_states_in_one_folder(tmp_path: Path) -> None:
    one, other = (
        small_run(tmp_path / "one"),
        small_run(tmp_path / "other", Plan(replace(SMALL, lr=0.1))),
    )
    for run in (one, other):
        play(run, 1, {"algorithm": "moon"}, {}, state=tmp_path / "own")
    for run in (one, other):
        play(run, 1, {"algorithm": "moon"}, {}, state=tmp_path / "own")
        assert facts(run, 2, "0")["state"] == digest(StateStore(run, tmp_path / "own").path(1, "0"))


def test_runs_with_the_same_id_do_not_take_each_others_states(tmp_path: Path) -> None:
    own = tmp_path / "own"
    one, other = (small_run(tmp_path / name, clients=("0",)) for name in ("one", "other"))
    assert one.id == other.id
    play(one, 1, {"algorithm": "moon"}, {}, state=own)
    play(other, 1, {"algorithm": "moon", "lr": 0.1}, {}, state=own)
    with pytest.raises(BadInputError, match="does not go with the update of client 0 of round 1"):
        train(one, "0", own, algorithm="moon")
    train(one, "0", own, algorithm="moon", number=1)
    train(one, "0", own, algorithm="moon")
    assert facts(one, 2, "0")["state"] == digest(StateStore(one, own).path(1, "0"))


# --- states that do not belong here --------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": "0" * 64}, "is the state of another run"),
        ({"client": "1"}, "is the state of another client: expected 0, found 1"),
        ({"round": 2}, "is the state of another round: expected 1, found 2"),
        ({"base": "0" * 64}, "is the state of another base model"),
    ],
)
def test_the_state_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "moon"}, {})
    path = run.round(1).client_state("0")
    tensors, metadata = contents(path)
    save(path, tensors, replace(metadata, **change))
    with pytest.raises(BadInputError, match=words) as caught:
        train(run, "0", algorithm="moon")
    assert str(path) in caught.value.message


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "moon"}, {})
    path = run.round(1).client_state("0")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInputError, match=f"{path}: truncated"):
        train(run, "0", algorithm="moon")


# --- what is recorded ----------------------------------------------------------------------------


def test_an_update_names_the_servers_state_that_it_was_made_with(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 2, *SCAFFOLD)
    assert "server_state" not in facts(run, 1, "0")
    assert facts(run, 2, "0")["server_state"] == digest(run.round(1).server_state)
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert facts(run, 2, "0")["server_state"] == manifest.server_state


def test_fednova_records_the_length_of_its_steps(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(replace(SMALL, algorithm="fednova", momentum=0.5)))
    train(run, "0")
    train(run, "1", steps=1)
    found = facts(run, 1, "0")
    steps = found["steps"]
    assert found["normalized_steps"] == pytest.approx((steps - (1 - 0.5**steps)) / 0.5)
    assert (facts(run, 1, "1")["steps"], facts(run, 1, "1")["normalized_steps"]) == (1, 1.0)


def test_an_algorithm_that_is_typed_replaces_the_plans_with_its_options(tmp_path: Path) -> None:
    plan = SMALL.with_options({"algorithm": "fedprox", "mu": 0.5})
    run = small_run(tmp_path / "run", Plan(plan))
    train(run, "0")
    assert (facts(run, 1, "0")["algorithm"], facts(run, 1, "0")["mu"]) == ("fedprox", 0.5)
    train(run, "1", algorithm="moon")
    found = facts(run, 1, "1")
    assert (found["algorithm"], found["mu"], found["temperature"]) == ("moon", 1.0, 0.5)
    train(run, "2", algorithm="fedavg")
    assert not facts(run, 1, "2").keys() & {"mu", "temperature"}


def test_the_rate_of_the_round_is_recorded_and_not_the_schedule(tmp_path: Path) -> None:
    plan = replace(SMALL, lr_schedule="exponential", lr_decay=0.5, lr_warmup=0, mixup=0.0)
    run = small_run(tmp_path / "run", Plan(plan))
    play(run, 2, {}, {})
    assert [facts(run, number, "0")["lr"] for number in (1, 2)] == [0.05, 0.025]
    off = {"lr_schedule", "lr_decay", "lr_warmup", "mixup", "steps_", "mu", "freeze", "clip_grad"}
    assert not facts(run, 1, "0").keys() & off
