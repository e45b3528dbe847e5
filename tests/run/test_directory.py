"""The run directory: names, paths, the open round, ``run.json`` and the plan."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import deliver, fedcli, run_info, tensors

from fedcli.errors import FedcliError, NotReadyError, RunFormatError, UsageError
from fedcli.plan import AggregatePlan, Plan, TrainPlan, read_toml
from fedcli.plan.sections import updated
from fedcli.run import Run
from fedcli.run.info import ModelInfo, client_order, is_client_id

clients = st.from_regex(r"[0-9abcXYZ]([0-9abcXYZ._-]{0,62}[0-9abcXYZ_-])?", fullmatch=True)


# --- clients -----------------------------------------------------------------------------------


@given(st.lists(clients), st.randoms())
def test_client_order_is_one_order(ids: list[str], rng: Any) -> None:
    shuffled = rng.sample(ids, len(ids))
    assert client_order(ids) == client_order(shuffled)
    assert set(client_order(ids)) == set(ids)


def test_numbers_come_by_value_and_before_names() -> None:
    ids = ["north", "10", "9", "Mercy", "010", "2b", "0"]
    assert client_order(ids) == ["0", "9", "010", "10", "2b", "Mercy", "north"]


@given(clients)
def test_a_client_id_is_a_file_name_of_its_own(client: str) -> None:
    assert is_client_id(client)
    path = Path("updates") / f"{client}.safetensors"
    assert path.parent == Path("updates")
    assert path.name == f"{client}.safetensors"


@pytest.mark.parametrize(
    "client",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "-x",
        ".x",
        "a b",
        "a\n",
        "é",
        "²",
        "a" * 65,
        "0.",
        "CON",
        "nul.x",
    ],
)
def test_what_is_no_client_id(client: str) -> None:
    assert not is_client_id(client)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (["2"], ["2"]),
        (["0,3,5"], ["0", "3", "5"]),
        (["5,0", "3", "0"], ["0", "3", "5"]),
        (["2-4"], ["2", "3", "4"]),
        (["0-1,9"], ["0", "1", "9"]),
        (["all"], [*map(str, range(10)), "north", "ward-1-2"]),
        (["ward-1-2"], ["ward-1-2"]),
        ([" 1 , 2 "], ["1", "2"]),
    ],
)
def test_choosing_clients(tmp_path: Path, selection: list[str], expected: list[str]) -> None:
    ids = (*map(str, range(10)), "ward-1-2", "north")
    run = Run.create(tmp_path, run_info(ids))
    assert run.choose_clients(selection) == expected


@pytest.mark.parametrize("selection", ["3", "1-5", "4-2", "north", "", "0,", "../0", "0-99999999"])
def test_clients_that_are_not_there(tiny_run: Run, selection: str) -> None:
    with pytest.raises(UsageError):
        tiny_run.choose_clients([selection])


def test_a_run_without_a_list_takes_any_name_but_all(tmp_path: Path) -> None:
    run = Run.create(tmp_path, run_info(()))
    assert run.choose_clients(["north,3"]) == ["3", "north"]
    with pytest.raises(UsageError, match="without a list"):
        run.choose_clients(["all"])


# --- rounds ------------------------------------------------------------------------------------


def test_where_everything_lies(tmp_path: Path) -> None:
    run = Run.create(tmp_path, run_info())
    round_ = run.round(12)
    paths = {
        "rounds/0012/global.safetensors": round_.global_model,
        "rounds/0012/aggregate.json": round_.manifest,
        "rounds/0012/evaluation.json": round_.evaluation,
        "rounds/0012/updates/3.safetensors": round_.update("3"),
        "rounds/0012/updates/3.json": round_.telemetry("3"),
        "rounds/0012/client_state/3.safetensors": round_.client_state("3"),
        "rounds/0012/server_state.safetensors": round_.server_state,
        "data/client-3.safetensors": run.client_shard("3"),
        "data/client-3.val.safetensors": run.validation_shard("3"),
        "data/test.safetensors": run.test_shard,
        "data/partition.json": run.partition_file,
    }
    assert {str(path.relative_to(tmp_path)): path for path in paths.values()} == paths


def test_the_open_round_follows_the_last_complete_one(tiny_run: Run) -> None:
    assert tiny_run.open_round().number == 1
    deliver(tiny_run, "0", tensors(1))
    assert tiny_run.open_round().number == 1
    tiny_run.round(1).global_model.touch()
    (tiny_run.round(0).path.parent / "notes").mkdir()
    (tiny_run.round(0).path.parent / "17").mkdir()
    assert tiny_run.open_round().number == 2
    assert [r.number for r in tiny_run.rounds()] == [0, 1]
    tiny_run.round(12345).path.mkdir()
    assert [r.number for r in tiny_run.rounds()] == [0, 1, 12345]
    assert tiny_run.training_round(1).number == 1
    assert tiny_run.training_round(None).number == 2
    with pytest.raises(NotReadyError, match="round 3 cannot start"):
        tiny_run.training_round(3)
    with pytest.raises(UsageError):
        tiny_run.training_round(0)


def test_a_run_without_its_starting_model(tmp_path: Path) -> None:
    run = Run.create(tmp_path, run_info())
    with pytest.raises(NotReadyError, match="starting model is missing"):
        run.open_round()


def test_only_whole_updates_of_proper_names_count(tiny_run: Run) -> None:
    updates = tiny_run.round(1).updates
    assert tiny_run.round(1).delivered() == []
    for name in ("10.safetensors", "9.safetensors", ".x.safetensors", "a b.safetensors", "9.json"):
        updates.mkdir(parents=True, exist_ok=True)
        (updates / name).touch()
    assert tiny_run.round(1).delivered() == ["9", "10"]


def test_a_command_line_to_type(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "my run", run_info())
    assert run.command("status") == f"fedcli status --run '{tmp_path}/my run'"
    assert replace(run, root=Path("fedrun")).command("status") == "fedcli status"


# --- run.json ----------------------------------------------------------------------------------


def test_run_json_comes_back_as_it_was(tmp_path: Path) -> None:
    plan = Plan(TrainPlan(epochs=3, augment=("flip",)), AggregatePlan(weighting="uniform"))
    info = replace(run_info(("2", "north")), plan=plan, model=ModelInfo("resnet18", stem="cifar"))
    assert Run.create(tmp_path, info).id == Run.open(tmp_path).id == info.id
    assert Run.open(tmp_path).info == info


def test_the_same_content_has_the_same_id_anywhere(tmp_path: Path) -> None:
    first, second = (Run.create(tmp_path / place, run_info()) for place in "ab")
    assert first.id == second.id
    assert (first.root / "run.json").read_bytes() == (second.root / "run.json").read_bytes()
    for other in (
        replace(run_info(), seed=1),
        run_info(("0", "1")),
        replace(run_info(), plan=Plan(TrainPlan(lr=0.02))),
        replace(run_info(), origin={"scheme": "iid"}),
    ):
        assert other.id != first.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "run format 2"),
        ({"format": "1"}, "run format '1'"),
        ({"format": True}, "run format True"),
        ({"seed": 7}, "changed by hand"),
        ({"id": "0" * 64}, "changed by hand"),
        ({"clients": ["../../etc"]}, "does not describe a run"),
        ({"clients": 3}, "does not describe a run"),
        ({"model": {"stem": "imagenet"}}, "does not describe a run: model has no 'name'"),
        ({"model": {"name": "linear", "code": "import os"}}, "does not describe a run"),
        ({"model": "linear"}, "does not describe a run"),
        ({"plan": {"train": {"epochs": "many"}}}, "does not describe a run"),
        ({"plan": {"train": {"lr": -1}}}, "does not describe a run"),
        ({"dataset": {}}, "does not describe a run"),
        ({"dataset": []}, "does not describe a run"),
    ],
)
def test_a_run_json_that_was_changed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run = Run.create(tmp_path, run_info())
    path = run.root / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunFormatError, match=message):
        Run.open(tmp_path)


@pytest.mark.parametrize("key", ["seed", "clients", "plan", "model", "dataset", "origin", "format"])
def test_a_run_json_without_a_key(tmp_path: Path, key: str) -> None:
    run = Run.create(tmp_path, run_info())
    values = json.loads((run.root / "run.json").read_text())
    del values[key]
    (run.root / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunFormatError):
        Run.open(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00"])
def test_a_run_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFormatError, match=r"run\.json: not readable as JSON"):
        Run.open(tmp_path)


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    done = fedcli("aggregate", cwd=tmp_path)
    assert done.status == 4
    assert done.err.splitlines() == [
        "error: fedrun: not a run directory: it has no run.json",
        "hint: make one with: fedcli partition, or fedcli init",
    ]
    (tmp_path / "fedrun").write_text("a file")
    with pytest.raises(FedcliError):
        Run.open(tmp_path / "fedrun")
    with pytest.raises(FedcliError):
        Run.open(tmp_path / "nowhere" / "at all")


# --- the plan ----------------------------------------------------------------------------------


def from_toml(path: Path) -> Plan:
    return Plan.from_mapping(read_toml(path), str(path))


def test_a_plan_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('[train]\nlr = 1\naugment = ["flip"]\n[aggregate]\nweighting = "uniform"\n')
    plan = from_toml(path)
    assert plan == Plan(TrainPlan(lr=1.0, augment=("flip",)), AggregatePlan(weighting="uniform"))
    assert Plan.from_mapping(json.loads(json.dumps(plan.as_json())), "here") == plan


@pytest.mark.parametrize(
    "text",
    [
        "[train",
        "[server]\nlr = 1",
        "train = 3",
        "[train]\nspeed = 3",
        "[train]\nepochs = 1.5",
        "[train]\nepochs = true",
        "[train]\nepochs = 0",
        "[train]\nlr = nan",
        "[train]\nlr = inf",
        "[train]\nmomentum = -0.1",
        '[train]\naugment = ["mixup"]',
        '[train]\naugment = "flip"',
        "[aggregate]\ntrim = 0.5",
        "[aggregate]\nfraction = 0.5\nclients_per_round = 3",
    ],
)
def test_a_plan_that_cannot_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        from_toml(path)


def of(algorithm: str, **aggregate: Any) -> Plan:
    return Plan.from_mapping({"train": {"algorithm": algorithm}, "aggregate": aggregate}, "here")


def test_an_algorithm_brings_its_strategy_where_nobody_names_a_rule() -> None:
    assert of("scaffold").aggregate.strategy == "scaffold"
    assert of("fednova", reduce="median").aggregate.strategy == "fedavg"
    typed = of("fedavg").with_options({"algorithm": "feddyn"}, {"strategy": None})
    assert typed.aggregate.strategy == "feddyn"
    assert typed.with_options({"algorithm": "moon"}, {}).aggregate.strategy == "fedavg"
    assert of("scaffold").with_options({"algorithm": "fedavg"}, {}).aggregate == AggregatePlan()


@pytest.mark.parametrize("strategy", ["fedavg", "median"])
def test_a_strategy_that_was_asked_for_stays(strategy: str) -> None:
    asked = of("fednova", strategy=strategy)
    for typed in ({}, {"algorithm": "fednova"}, {"algorithm": "feddyn"}, {"lr": 0.5}):
        assert asked.with_options(typed, {}).aggregate.strategy == strategy
    plain = of("fedavg", strategy=strategy)
    typed = plain.with_options({"algorithm": "fednova"}, {}, rule_asked_for=True)
    assert typed.aggregate.strategy == strategy


def test_numbers_beyond_all_use_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    for key, value, words in (
        ("lr", "1" + 400 * "0", "lr: the number has more than 64 bits"),
        ("epochs", "1" + 400 * "0", "epochs: the number has more than 64 bits"),
        ("optimizer", "0x" + 9000 * "f", "optimizer: the number has more than 64 bits"),
        ("lr", 9000 * "1", "not a TOML file"),
        ("steps", "1000000001", "--steps: expected at most 1000000000, found 1000000001"),
        ("lr_warmup", "1000000001", "--lr-warmup: expected at most 1000000000"),
    ):
        path.write_text(f"[train]\n{key} = {value}\n")
        with pytest.raises(UsageError, match=words):
            from_toml(path)


def test_a_list_is_asked_for_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="augment: expected a list of text, found 'flip'"):
        Plan.from_mapping({"train": {"augment": "flip"}}, "here")


def test_a_plan_that_is_not_a_readable_file(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError):
        from_toml(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError):
        from_toml(tmp_path / "plan.toml")
    with pytest.raises(FedcliError):
        from_toml(tmp_path)


def test_options_take_the_place_of_the_plan() -> None:
    plan = TrainPlan(epochs=3, lr=0.5)
    assert updated(plan, {"epochs": None, "lr": 1}) == TrainPlan(epochs=3, lr=1.0)
    with pytest.raises(UsageError, match="--batch-size"):
        updated(plan, {"batch_size": 0})
    with pytest.raises(UsageError, match=r"--trim: expected a share from 0 to below 0\.5"):
        updated(AggregatePlan(), {"trim": 0.5})
