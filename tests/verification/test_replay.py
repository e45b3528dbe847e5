"""``verify --replay``: models and updates are replayed byte for byte."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import RULE_OPTIONS, SEVEN, TRAINING, controls_of, copied, planned, snapshot
from support.runs import ROLES, deliver, fedcli, tensors
from support.signing import keys, signed_run
from support.small_runs import SMALL, small_run
from support.tampering import resave, rewrite, send

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Role
from fedcli.plan import Plan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import VerifyResult, verify
from fedcli.strategies import STRATEGIES
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")


def replayed(run: Run, **options: Any) -> VerifyResult:
    """Replay; the run has the same bytes as before."""
    before = snapshot(run)
    result = verify(run.root, replay=UserCode(), **options)
    assert snapshot(run) == before
    return result


def made_again(result: VerifyResult, what: str) -> tuple[int, int, int, int]:
    """How many there are, are equal, could not be replayed, differ."""
    (part,) = (part for part in result.parts if part.what == what)
    return part.files, part.sound, part.missing, part.changed


def problems(result: VerifyResult) -> dict[str, str]:
    """What is said first of each file."""
    return {finding.file: finding.message for finding in reversed(result.findings)}


# --- aggregation, without torch ------------------------------------------------------------------


def two_rounds(root: Path, strategy: str, **plan: Any) -> Run:
    """Two rounds of seven clients by a strategy, so that the second starts from its state."""
    run = planned(root, SEVEN, **plan)
    for number in (1, 2):
        for client in SEVEN:
            values = {n: 0.1 * v for n, v in tensors(10 * number + int(client)).items()}
            values = {n: np.asarray(v, tensors(0)[n].dtype) for n, v in values.items()}
            roles: dict[str, Role] = dict(ROLES)
            if strategy == "scaffold":
                controls = controls_of(values, ROLES, int(client))
                values, roles = values | controls, roles | dict.fromkeys(controls, Role.CONTROL)
            training = {**TRAINING, "steps": 3 + int(client)}
            deliver(run, client, values, round_number=number, roles=roles, training=training)
        options = {"strategy": strategy, **RULE_OPTIONS.get(strategy, {})}
        aggregate(run, options=options)
    return run


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_same_bytes_again(tmp_path: Path, strategy: str) -> None:
    run = two_rounds(tmp_path / "run", strategy)
    result = replayed(run)
    assert result.sound
    assert made_again(result, "aggregated again") == (2, 2, 0, 0)
    assert made_again(result, "trained again") == (14, 0, 14, 0)  # there is no data


def test_sampled_clients_and_a_robust_rule(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", SEVEN, strategy="krum", clients_per_round=5)
    for number in (1, 2):
        for client in SEVEN:  # some were not drawn
            send(run, client, number)
        aggregate(run)
    aggregate_again = made_again(replayed(run), "aggregated again")
    assert aggregate_again == (2, 2, 0, 0)


def test_options_that_were_typed_and_clients_left_out(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", SEVEN, clients_per_round=3)
    for client in SEVEN:
        send(run, client, 1)
    aggregate(
        run,
        options={"strategy": "fedadam", "server_lr": 0.3, "clients_per_round": 6},
        exclude=["0"],
        min_clients=2,
    )
    assert made_again(replayed(run), "aggregated again") == (1, 1, 0, 0)


def test_late_updates_that_came_again_later(tmp_path: Path) -> None:
    """What arrived after a round was complete had no part in it, though it is there now."""
    run, options = planned(tmp_path / "run", ("0", "1", "2")), {"strategy": "fedbuff", "buffer": 1}
    send(run, "0", 1)
    aggregate(run, options=options)
    send(run, "1", 1)
    aggregate(run, options=options)  # round 2, of a late update alone
    send(run, "1", 2)
    send(run, "2", 1)
    send(run, "0", 3)
    aggregate(run, options=options)
    assert made_again(replayed(run), "aggregated again") == (3, 3, 0, 0)


def test_rejected_updates_stay_rejected(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", ("0", "1", "2"))
    for client in "012":
        send(run, client, 1)
    resave(run.round(1).update("2"), tensors(3) | {"fc.bias": np.full(4, np.nan, np.float32)})
    run.round(1).telemetry("2").unlink()
    aggregate(run, min_clients=2)
    result = replayed(run)
    assert result.sound
    assert made_again(result, "aggregated again") == (1, 1, 0, 0)


def test_signed_rounds_need_no_key_to_be_made_again(tmp_path: Path) -> None:
    signed = signed_run(tmp_path / "run", keys(tmp_path / "keys"))
    for client in ("0", "1", "2"):
        signed.deliver(client, tensors(int(client)))
    options = {"strategy": "fedavgm"}
    aggregate(signed.run, options=options, key=tmp_path / "keys" / "coordinator.key")
    result = replayed(signed.run)
    assert result.sound
    assert made_again(result, "aggregated again") == (1, 1, 0, 0)
    assert {part.what: part.sound for part in result.parts}["signatures"] == 5


def test_partial_means_have_to_be_in_the_run(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", ("0", "1", "2"))
    for client in "012":
        send(run, client, 1)
    path = run.root / "partials" / "north.safetensors"
    partial(run, ["0", "1"], path)
    aggregate(run, members=[str(path), "2"])
    assert made_again(replayed(run), "aggregated again") == (1, 1, 0, 0)
    path.unlink()
    result = replayed(run)
    assert result.sound
    assert made_again(result, "aggregated again") == (1, 0, 1, 0)
    assert "the partial mean north is not in the run" in str(result.findings)


def test_a_round_whose_updates_are_gone_cannot_be_made_again(tmp_path: Path) -> None:
    run = two_rounds(tmp_path / "run", "fedavgm")
    run.round(1).update("3").unlink()
    run.round(1).server_state.unlink()
    result = replayed(run)
    assert result.sound
    assert made_again(result, "aggregated again") == (2, 0, 2, 0)
    found = problems(result)
    assert "rounds/0001/updates/3.safetensors is not in" in found["rounds/0001/global.safetensors"]
    assert "server_state.safetensors" in found["rounds/0002/global.safetensors"]


def replace_model(run: Run, number: int, values: dict[str, Any]) -> None:
    """Replace the last model, and let its manifest agree."""
    round_ = run.round(number)
    resave(round_.global_model, values)
    with Checkpoint(round_.global_model) as model:
        sha256 = model.digest()
    rewrite(round_.manifest, lambda manifest: manifest.update({"global": sha256}))


def test_a_model_that_its_updates_do_not_give_is_found(tmp_path: Path) -> None:
    """All SHA-256s agree: only the replay tells, in which tensor and by how much."""
    run = two_rounds(tmp_path / "run", "fedavg")
    with Checkpoint(run.round(2).global_model) as model:
        values = model.tensors()
    values["fc.weight"] = values["fc.weight"].copy()
    values["fc.weight"][1, :3] += 0.25
    replace_model(run, 2, values)
    assert verify(run.root).sound
    result = replayed(run)
    assert not result.sound
    assert made_again(result, "aggregated again") == (2, 1, 0, 1)
    (finding,) = (finding for finding in result.findings if finding.wrong)
    assert (finding.problem.value, finding.file) == ("differs", "rounds/0002/global.safetensors")
    assert "tensor 'fc.weight' is the first that differs: 3 of 32 values, by up to 0.25" in (
        finding.message
    )


def test_a_rule_that_was_not_used_is_found(tmp_path: Path) -> None:
    run = two_rounds(tmp_path / "run", "fedadam")
    options = json.loads(run.round(2).manifest.read_text())["options"]
    rewrite(run.round(2).manifest, lambda m: m.update(options={**options, "server_lr": 0.5}))
    assert verify(run.root).sound
    assert "tensor 'conv.weight' is the first that differs" in str(replayed(run).findings)


def test_a_weight_that_was_not_used_is_found(tmp_path: Path) -> None:
    run = two_rounds(tmp_path / "run", "fedavg")
    rewrite(run.round(1).manifest, lambda m: m["accepted"][2].update(weight=0.5))
    assert verify(run.root).sound
    found = problems(replayed(run))
    assert "client 2 has weight 0.131868 in the replay" in found["rounds/0001/aggregate.json"]


def test_a_function_named_in_a_file_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rules.py").write_text(
        "def middle(values, weights):\n    return values.mean(axis=0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = planned(tmp_path / "run", ("0", "1", "2"))
    for client in "012":
        send(run, client, 1)
    aggregate(run, options={"reduce": "my_rules:middle"})
    del sys.modules["my_rules"]
    result = replayed(run)
    assert "my_rules" not in sys.modules
    assert "it was made with my_rules:middle; give it with --reduce" in str(result.findings)
    again = verify(run.root, replay=UserCode(reduce="my_rules:middle"))
    assert made_again(again, "aggregated again") == (1, 1, 0, 0)


def test_an_unknown_rule_is_not_made_again(tmp_path: Path) -> None:
    run = two_rounds(tmp_path / "run", "fedavg")
    rewrite(run.round(1).manifest, lambda m: m.update(strategy="nonsense"))
    rewrite(run.round(2).manifest, lambda m: m["options"].update(nonsense=3))
    result = replayed(run)
    assert made_again(result, "aggregated again")[1] == 0
    assert "nonsense" in problems(result)["rounds/0001/global.safetensors"]


# --- training ------------------------------------------------------------------------------------

TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fedavg": ({"augment": ("flip", "crop"), "mixup": 0.2, "lr_schedule": "cosine"}, {}),
    "scaffold": ({"algorithm": "scaffold"}, {"strategy": "scaffold"}),
    "ditto by steps": ({"algorithm": "ditto", "steps": 3}, {}),
    "local layers": ({"local_layers": ("out",), "initial_loss": True}, {"strategy": "qfedavg"}),
}


@pytest.mark.parametrize(("training", "aggregation"), TRAININGS.values(), ids=TRAININGS)
def test_training_gives_the_same_bytes_again(
    tmp_path: Path, training: dict[str, Any], aggregation: dict[str, Any]
) -> None:
    """Whatever is recorded counts, and not the plan of the run."""
    model = "cnn" if "local_layers" in training else "linear"
    if "lr_schedule" in training:
        training = {**training, "lr_rounds": 5}
    plan = Plan(replace(SMALL, label_smoothing=0.3))
    run = small_run(tmp_path / "run", plan, clients=("0", "1"), count=20, model=model)
    for _ in range(2):
        options = {**training, "lr": 0.03, "label_smoothing": 0.0}
        train_client(run, ["all"], options=options, execution=Execution(threads=1), seed=4)
        aggregate(run, options=aggregation)
    result = replayed(run)
    assert result.sound
    assert made_again(result, "aggregated again") == (2, 2, 0, 0)
    assert made_again(result, "trained again") == (4, 4, 0, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = small_run(tmp_path_factory.mktemp("trained") / "run", clients=("0", "1"), count=20)
    for _ in range(2):
        options = {"algorithm": "scaffold"}
        train_client(run, ["all"], options=options, execution=Execution(threads=1))
        aggregate(run, options={"strategy": "scaffold"})
    return run


def test_an_update_that_its_training_does_not_give_is_found(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", clients=("0",), count=20)
    train_client(run, ["0"], execution=Execution(threads=1))
    round_ = run.round(1)
    with Checkpoint(round_.update("0")) as update:
        values = update.tensors()
    values["fc.bias"] = values["fc.bias"] * np.float32(-1)
    resave(round_.update("0"), values)
    with Checkpoint(round_.update("0")) as update:
        sha256 = update.digest()
    rewrite(round_.telemetry("0"), lambda t: t.update(sha256=sha256, host="elsewhere"))
    aggregate(run)
    assert verify(run.root).sound
    found = problems(replayed(run))["rounds/0001/updates/0.safetensors"]
    assert "tensor 'fc.bias' is the first that differs: 2 of 2 values, by up to" in found
    assert "it was trained on elsewhere, and other machines may round differently" in found


MISSING: dict[str, tuple[Any, str]] = {
    "data": (lambda run: run.client_shard("0").unlink(), "the examples of client 0 are not"),
    "state": (lambda run: run.round(1).client_state("0").unlink(), "the state that client 0"),
    "server": (lambda run: run.round(1).server_state.unlink(), "the server's state of round 1"),
    "update": (lambda run: run.round(2).update("0").unlink(), "was deleted"),
    "device": (
        lambda run: resave(run.round(2).update("0"), training={"device": "cuda:99", "threads": 1}),
        "was trained on cuda:99, which is not here",
    ),
    "record": (
        lambda run: resave(run.round(2).update("0"), training={"epochs": 1}),
        "does not say on which device",
    ),
}


@pytest.mark.parametrize(("remove", "reason"), MISSING.values(), ids=MISSING)
def test_what_cannot_be_trained_again_says_why(
    trained: Run, tmp_path: Path, remove: Any, reason: str
) -> None:
    run = copied(trained, tmp_path / "run")
    remove(run)
    result = replayed(run, round_number=2)
    not_made = [f for f in result.findings if f.problem.value == "not-replayed"]
    update = [f.message for f in not_made if f.file == "rounds/0002/updates/0.safetensors"]
    assert reason in str(update)
    others = 0 if "server" in reason else 1
    assert made_again(result, "trained again")[1] == others


def test_other_examples_than_the_shard_are_told(trained: Run, tmp_path: Path) -> None:
    run = copied(trained, tmp_path / "run")
    with Checkpoint(run.client_shard("1")) as other:
        resave(run.client_shard("0"), other.tensors())
    assert "was trained on other examples" in str(replayed(run, round_number=1).findings)


def test_from_the_command_line(tmp_path: Path) -> None:
    """As its users do it: another process, and more threads than one."""
    for words in (
        "partition --limit 60 --model linear --epochs 1 --clients 2 --algorithm scaffold",
        "run --rounds 1 --jobs 1 --threads 2 --no-evaluate",
        "run --rounds 2 --jobs 2 --no-evaluate",
    ):
        done = fedcli(*words.split(), cwd=tmp_path)
        assert done.status == 0, done.err
    done = fedcli("verify", "--replay", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    parts = {part["what"]: part["sound"] for part in done.json["parts"]}
    assert (parts["aggregated again"], parts["trained again"]) == (2, 4)
    assert done.json["findings"] == []


@pytest.mark.parametrize("option", ["--model", "--reduce"])
def test_code_that_cannot_be_imported_is_no_finding(tmp_path: Path, option: str) -> None:
    run = planned(tmp_path / "fedrun")
    found = fedcli("verify", "--replay", option, "no_such:thing", cwd=run.root.parent)
    assert found.status == 2
    assert found.err.startswith(f"error: {option} no_such:thing: cannot be imported")
