"""``fedcli init``: a run without data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.in_process import MAKE
from support.runs import fedcli

from fedcli.cli import execute
from fedcli.errors import ConflictError, ExitStatus, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Role
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.start import Start
from fedcli.steps.init import init

LINEAR = Start(ModelInfo("linear"))
CLASSES = ("benign", "malignant")


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_session(tmp_path):
    arguments = (
        "init", "--classes", "benign,none", "--clients", "st-mary,10,9", "--image-size", 16,
        "--model", "linear", "--lr", 0.1, "--augment", "flip", "--weighting", "uniform",
        "--run", "fed run",
    )  # fmt: skip
    done = fedcli(*arguments, cwd=tmp_path)
    assert done.status == 0, done.err
    last = done.out.splitlines()[-1]
    assert last == "next: fedcli train-client --id 9 --data PATH --run 'fed run'"
    assert files(tmp_path) == ["fed run/rounds/0000/global.safetensors", "fed run/run.json"]
    info = Run.open(tmp_path / "fed run").info
    assert info.dataset.classes == ("benign", "none")
    assert info.dataset.shape == (3, 16, 16)
    assert info.clients == ("9", "10", "st-mary")
    assert (info.plan.train.lr, info.plan.train.augment) == (0.1, ("flip",))
    assert info.plan.aggregate.weighting == "uniform"
    again = fedcli(*arguments, "--json", cwd=tmp_path)
    assert again.status == 0
    assert again.json["already_done"] is True


def test_round_zero_says_what_it_is(tmp_path):
    start = Start(ModelInfo("resnet18", stem="cifar"), seed=4)
    result = init(tmp_path, CLASSES, start=start)
    with Checkpoint(tmp_path / "rounds/0000/global.safetensors", Kind.GLOBAL) as model:
        metadata = model.metadata
        assert (metadata.run, metadata.round, metadata.seed) == (result.id, 0, 4)
        assert metadata.roles["bn1.running_mean"] == Role.BUFFER
        assert metadata.roles["bn1.num_batches_tracked"] == Role.COUNTER
        assert "conv1.weight" not in metadata.roles
        assert model.layout["fc.weight"].shape == (2, 512)


def test_another_run_is_a_conflict_and_force_replaces_it(tmp_path):
    init(tmp_path, CLASSES, start=LINEAR)
    assert init(tmp_path, CLASSES, start=LINEAR).already_done
    with pytest.raises(ConflictError, match=r"dataset\.classes"):
        init(tmp_path, ("a", "b"), start=LINEAR)
    init(tmp_path, ("a", "b"), start=LINEAR, force=True)
    assert Run.open(tmp_path).info.dataset.classes == ("a", "b")


def test_a_plan_file_is_what_options_start_from(tmp_path):
    (tmp_path / "plan.toml").write_text("[train]\nlr = 0.5\nepochs = 2\n")
    done = fedcli(
        "init", "--num-classes", 3, "--model", "linear", "--plan", "plan.toml", "--epochs", 1,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    info = Run.open(tmp_path / "fedrun").info
    assert (info.plan.train.lr, info.plan.train.epochs) == (0.5, 1)
    assert info.dataset.classes == ("0", "1", "2")
    assert info.clients == ()


ALGORITHMS = [
    (["--algorithm", "scaffold"], ("scaffold", "scaffold")),
    (["--algorithm", "fedprox"], ("fedprox", "fedavg")),
    (["--algorithm", "fednova", "--strategy", "fedavg"], ("fednova", "fedavg")),
    (["--algorithm", "ditto", "--reduce", "median"], ("ditto", "fedavg")),
    (["--plan", "plan.toml"], ("feddyn", "feddyn")),
    (["--plan", "plan.toml", "--algorithm", "fednova"], ("fednova", "fednova")),
    (["--plan", "asks.toml"], ("fednova", "fedavg")),
    (["--plan", "asks.toml", "--algorithm", "moon"], ("moon", "fedavg")),
    (["--plan", "fedavg.toml", "--algorithm", "fednova"], ("fednova", "fedavg")),
]


@pytest.mark.parametrize(("typed", "expected"), ALGORITHMS)
def test_an_algorithm_brings_its_strategy_where_nobody_asks_for_one(
    tmp_path, monkeypatch, typed, expected
):
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text('[train]\nalgorithm = "feddyn"\n')
    asked = '[aggregate]\nstrategy = "fedavg"\n'
    Path("fedavg.toml").write_text(asked)
    Path("asks.toml").write_text(f'[train]\nalgorithm = "fednova"\n{asked}')
    assert execute(["init", "--num-classes", "2", "--model", "linear", *typed]) == 0
    plan = Run.open(Path("fedrun")).info.plan
    assert (plan.train.algorithm, plan.aggregate.strategy) == expected


def test_an_algorithm_without_its_other_half_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = ["--algorithm", "feddyn", "--strategy", "fedadam"]
    assert execute(["init", "--num-classes", "2", *typed]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --algorithm feddyn: needs the server optimizer feddyn, but the rule has adam",
        "hint: use --strategy feddyn",
    ]
    assert not Path("fedrun").exists()


def test_the_plan_in_the_run_is_what_was_set_without_what_is_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = [
        "--algorithm",
        "moon",
        "--mu",
        "5",
        "--steps",
        "100",
        "--mixup",
        "0",
        "--freeze",
        "none",
    ]
    assert execute(["init", "--num-classes", "2", "--model", "linear", *typed]) == 0
    assert json.loads(Path("fedrun/run.json").read_text())["plan"]["train"] == {
        "algorithm": "moon",
        "mu": 5.0,
        "steps": 100,
        "lr": 0.01,
        "lr_schedule": "constant",
        "batch_size": 64,
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "precision": "fp32",
    }


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"classes": ("a",)}, "--classes"),
        ({"classes": ("a", "a")}, "--classes"),
        ({"clients": ("a", "a")}, "--clients"),
        ({"clients": ("../a",)}, "client id"),
        ({"channels": 4}, "--channels"),
        ({"start": replace(LINEAR, model=ModelInfo("no-such"))}, "--model"),
    ],
)
def test_values_that_cannot_be_used_are_refused(tmp_path, changes, option):
    with pytest.raises(UsageError, match=option):
        init(tmp_path / "run", **{"classes": CLASSES, "start": LINEAR, **changes})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [{"normalize": "imagenet"}, {"pretrained": True}])
def test_grey_pictures_get_the_mean_of_imagenets_constants(option):
    start = replace(LINEAR, **option).settled()
    assert start.normalization("uint8", 3) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert start.normalization("uint8", 1) == ((0.449,), (0.226,))
    with pytest.raises(UsageError, match=f"--{next(iter(option))}.* have 4"):
        start.normalization("uint8", 4)


def test_neither_classes_nor_their_number_is_a_usage_error(tmp_path):
    failed = fedcli("init", "--json", cwd=tmp_path)
    assert failed.status == 2
    assert "--classes" in failed.json["error"]["message"]


CANNOT_BE_SAMPLED = (
    *("--clients a,b --clients-per-round 3", "--clients-per-round 1", "--fraction 0.5"),
)


RULES_THAT_DO_NOT_EXIST = (
    *("--strategy sum", "--reduce sum", "--server-optimizer sum", "--weighting sum", "--q 2"),
)


@pytest.mark.parametrize("line", [*CANNOT_BE_SAMPLED, *RULES_THAT_DO_NOT_EXIST])
def test_a_run_that_no_round_could_be_made_in_is_not_made(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute([*MAKE, *line.split()]) == ExitStatus.USAGE
    assert line.split()[-2] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", ['"Melanoma, NOS",nevus', "Melanoma, NOS,nevus"])
def test_a_class_may_have_a_comma_in_its_name(tmp_path, classes):
    words = ("--model", "linear", "--image-size", 8)
    done = fedcli("init", "--classes", classes, *words, cwd=tmp_path)
    assert '2 classes: "Melanoma, NOS", nevus;' in done.out
    assert Run.open(tmp_path / "fedrun").info.dataset.classes == ("Melanoma, NOS", "nevus")
    again = fedcli("init", "--classes", '"Melanoma, NOS", nevus', *words, cwd=tmp_path)
    assert "already done" in again.out
