"""Masked simulations: one party plays all, with keys in the run, and ``run`` drives each step."""

import contextlib
import io
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.signing import states

from fedcli.cli import execute
from fedcli.errors import ConflictError, FedcliError, NotReadyError, UsageError
from fedcli.execution.local import Launch
from fedcli.execution.step_arguments import StepOptions
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.masking.rounds import read_survivors
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.secagg import SecaggOptions
from fedcli.run import Run
from fedcli.run.exchange import files_of_client, files_of_round
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.gc import gc
from fedcli.steps.partition import partition, partition_like
from fedcli.steps.run import RunResult, run_rounds
from fedcli.steps.status import status
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")

SECAGG = SecaggOptions(secagg=True, secagg_clip=0.5)


def make(root: Path, clients: int = 4, **more: Any) -> Run:
    plan = Plan(TrainPlan(epochs=1), more.pop("rule", None) or AggregatePlan())
    start = Start(ModelInfo("linear"), plan=plan, secagg=more.pop("secagg", SECAGG))
    partition(root, DataSource(limit=60), Scheme("iid", clients=clients), start, **more)
    return Run.open(root)


class InThisProcess:
    """Runs the commands of steps one after another, without a process of their own."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, launch: Launch) -> int:
        words = launch.words
        self.lines.append(" ".join([words[1], *words[4:-2]]))
        printed, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            ended = execute(words[1:])
        launch.out.write(printed.getvalue().encode())
        launch.err.write(said.getvalue().encode())
        return ended

    def stop(self) -> None:
        """All steps have ended."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    starter = InThisProcess()
    monkeypatch.setattr("fedcli.execution.engines.starter_for", lambda *_: starter)
    return starter


def finish(run: Run, rounds: int = 1, **options: Any) -> RunResult:
    given = StepOptions(execution={"device": "cpu"}, **options)
    return run_rounds(run, rounds, given, jobs=1, evaluate=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody changes."""
    return make(tmp_path_factory.mktemp("made") / "fedrun")


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    shutil.copytree(made.root, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


def model(run: Run, number: int = 1) -> dict[str, np.ndarray]:
    with Checkpoint(run.round(number).global_model, Kind.GLOBAL) as found:
        return found.tensors()


def survivors(run: Run, number: int = 1) -> list[str]:
    return [*read_survivors(run, run.round(number)).survivors]


# the run


def test_keys_are_in_a_folder_of_their_own_for_their_owner_only(made):
    keys = {p.relative_to(made.root).as_posix(): p for p in made.root.rglob("*.key")}
    expected = {"keys/coordinator.key", *(f"keys/clients/{c}.key" for c in "0123")}
    assert keys.keys() == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.values()} == {0o600}
    info = made.info
    assert set(info.members) == set(info.masking_keys) == set(info.clients) == set("0123")
    assert info.plan.secagg is not None
    assert (info.plan.secagg.threshold, info.plan.aggregate.weighting) == (3, "uniform")


def test_no_command_sends_a_key(run, steps):
    finish(run)
    sent = [files_of_round(run, run.round(number)) for number in (0, 1)]
    sent += [files_of_client(run, run.round(1), client) for client in run.info.clients]
    assert not [path for files in sent for path in files if "keys" in path.parts]


def test_the_same_run_can_be_asked_for_again_and_another_one_not(run):
    before = states(run.root)
    again = make(run.root)
    assert again.id == run.id
    assert states(run.root) == before
    with pytest.raises(ConflictError, match="its --secagg-bits is 20, not 12"):
        make(run.root, secagg=SecaggOptions(secagg=True, secagg_clip=0.5, secagg_bits=12))
    with pytest.raises(ConflictError, match="there is another run"):
        make(run.root, secagg=SecaggOptions())
    assert states(run.root) == before


def test_force_makes_other_keys_and_keeps_no_record_of_the_old_ones(run, steps):
    finish(run)
    assert [*(run.root / "keys").rglob("*.answered")]
    assert [*(run.root / "keys").rglob("*.closed")]
    again = make(run.root, force=True)
    assert again.id != run.id
    assert again.info.masking_keys["0"] != run.info.masking_keys["0"]
    assert len([p for p in (run.root / "keys").rglob("*") if p.is_file()]) == 5
    plain = make(run.root, secagg=SecaggOptions(), force=True)
    assert not plain.info.members
    assert not [p for p in (run.root / "keys").rglob("*") if p.is_file()]


def test_a_run_like_another_one_has_keys_of_its_own(run, tmp_path):
    partition_like(tmp_path / "like", run, Start(ModelInfo("linear"), secagg=SECAGG))
    like = Run.open(tmp_path / "like")
    assert like.has_keys
    assert like.info.coordinator != run.info.coordinator
    partition_like(tmp_path / "plain", run, Start(ModelInfo("linear")))
    assert not Run.open(tmp_path / "plain").has_keys


def test_two_clients_are_too_few(tmp_path):
    with pytest.raises(UsageError, match="--secagg: expected at least 3 clients in a round"):
        make(tmp_path / "fedrun", clients=2)
    assert not (tmp_path / "fedrun").exists()


def test_a_key_of_somebody_else_is_not_taken_from_the_run(run, tmp_path):
    """A run with all keys has them in this folder; elsewhere in a run no key may lie."""
    assert execute(["train-client", "--run", str(run.root), "--id", "0", "--key",
                    str(run.member_key("1"))]) == 2  # fmt: skip
    assert execute(["train-client", "--run", str(run.root), "--id", "0", "--key",
                    str(run.member_key("0"))]) == 0  # fmt: skip
    run.member_key("1").chmod(0o644)
    assert execute(["train-client", "--run", str(run.root), "--id", "1"]) == 4


# the rounds


def test_run_drives_every_step_of_a_round(run, steps):
    result = finish(run, 2)
    assert [one.clients for one in result.rounds] == [4, 4]
    first = [line for line in steps.lines if "--round 1" in line]
    assert [line.split()[0] for line in first] == [
        *["train-client"] * 4, "aggregate", *["unmask"] * 4, "aggregate",
    ]  # fmt: skip
    assert "--close" in first[4]
    assert verify(run.root).sound
    replayed = verify(run.root, replay=UserCode())
    assert replayed.sound
    steps.lines.clear()
    assert finish(run, 2).rounds == ()
    assert steps.lines == []


def test_other_keys_give_other_masks_and_the_same_model(run, steps, tmp_path):
    other = make(tmp_path / "other")
    for one in (run, other):
        finish(one)
    with (
        Checkpoint(run.round(1).update("0"), Kind.UPDATE) as mine,
        Checkpoint(other.round(1).update("0"), Kind.UPDATE) as theirs,
    ):
        assert (mine.tensors()["masked"] != theirs.tensors()["masked"]).mean() > 0.99
    assert all(np.array_equal(x, model(other)[name]) for name, x in model(run).items())


@pytest.mark.parametrize("done", ["trained", "closed", "answered", "enough"])
def test_a_run_that_was_interrupted_goes_on_where_it_stands(run, steps, done):
    root = ["--run", str(run.root)]
    lines = [["train-client", "--id", "all"], ["aggregate", "--close"], ["unmask", "--id", "2"]]
    lines += [["unmask", "--id", "0"], ["unmask", "--id", "1"]]
    count = {"trained": 1, "closed": 2, "answered": 3, "enough": 5}[done]
    for words in lines[:count]:
        assert execute([*words, *root]) == 0
    before = states(run.root / "rounds")
    finish(run)
    changed = {name for name, state in before.items() if states(run.root / "rounds")[name] != state}
    assert not [name for name in changed if Path(name).suffix]  # folders may have got new files
    asked = [line.split()[0] for line in steps.lines]
    assert asked.count("train-client") == (4 if done == "trained" else 0)
    assert asked.count("unmask") == {"trained": 4, "closed": 4, "answered": 3, "enough": 1}[done]
    assert survivors(run) == [*"0123"]


def test_a_client_that_fails_is_in_no_sum_with_min_clients(run, steps):
    run.client_shard("1").write_bytes(b"no data")
    with pytest.raises(FedcliError, match="client 1, round 1"):
        finish(run)
    result = finish(run, min_clients=3)
    assert [one.clients for one in result.rounds] == [3]
    assert survivors(run) == [*"023"]
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert [one.client for one in manifest.missing] == ["1"]


def test_members_that_do_not_answer_are_not_needed_as_long_as_enough_do(run, steps):
    assert execute(["train-client", "--id", "all", "--run", str(run.root)]) == 0
    assert execute(["aggregate", "--close", "--run", str(run.root)]) == 0
    lost = run.member_key("3").rename(run.root.parent / "3.key")
    said: list[str] = []
    silent = type("Listening", (), {"say": lambda _, line: said.append(line)})
    for name in ("start", "advance"):
        setattr(silent, name, lambda *_: None)
    run_rounds(run, 1, StepOptions(), jobs=1, evaluate=False, progress=silent())
    assert survivors(run) == [*"0123"]
    assert not run.round(1).answer("3").exists()
    assert any("client 3 has not answered for round 1" in line for line in said)
    lost.rename(run.member_key("3"))


def test_too_few_answers_end_the_run_with_a_reason(run, steps):
    assert execute(["train-client", "--id", "all", "--run", str(run.root)]) == 0
    assert execute(["aggregate", "--close", "--run", str(run.root)]) == 0
    kept = [run.member_key(c).rename(run.root.parent / f"{c}.key") for c in "23"]
    with pytest.raises(NotReadyError, match=r"client [23] has not answered for round 1") as caught:
        finish(run)
    assert "fedcli unmask --id" in (caught.value.hint or "")
    assert not run.round(1).global_model.exists()
    for client, path in zip("23", kept, strict=True):
        path.rename(run.member_key(client))
    assert [one.clients for one in finish(run).rounds] == [4]


def test_excluded_members_neither_train_nor_answer(run, steps):
    assert [one.clients for one in finish(run, exclude=("2",)).rounds] == [3]
    assert survivors(run) == [*"013"]
    assert not run.round(1).answer("2").exists()
    assert finish(run, exclude=("2",)).rounds == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_clients": 2}, "--min-clients: expected at least 3, found 2"),
        ({"exclude": ("0", "1")}, "--exclude: leaves 2 clients of round 1"),
    ],
)
def test_fewer_clients_than_open_a_sum_are_refused_before_any_trains(run, steps, options, says):
    with pytest.raises(UsageError, match=says):
        finish(run, **options)
    assert steps.lines == []


def test_another_training_of_a_complete_round_is_noticed(run, steps):
    finish(run)
    with pytest.raises(ConflictError, match=r"was trained with --lr 0\.\d+, not 0\.5"):
        finish(run, training={"lr": 0.5})


def test_only_drawn_clients_train_and_answer(tmp_path, steps):
    run = make(tmp_path / "fedrun", 5, rule=AggregatePlan(clients_per_round=3))
    finish(run, 2)
    for number in (1, 2):
        answers = {p.stem for p in (run.round(number).path / "unmask").iterdir()}
        assert answers == set(survivors(run, number))
        assert len(answers) == 3


def test_gc_keeps_the_keys_and_verify_knows_them(run, steps):
    finish(run, 2)
    gc(run, 1)
    assert run.has_keys
    found = verify(run.root)
    assert not [one for one in found.findings if one.file.startswith("keys")]
    (run.root / "keys" / "mine.txt").write_text("a stranger's")
    assert [one.file for one in verify(run.root).findings if one.file.startswith("keys")]


def test_status_asks_for_no_key_in_a_simulation(run):
    assert status(run).next == run.command("train-client --id all")
    assert execute(["train-client", "--id", "all", "--run", str(run.root)]) == 0
    assert status(run).next == run.command("aggregate --close")
    assert execute(["aggregate", "--close", "--run", str(run.root)]) == 0
    assert status(run).next == run.command("unmask --id 0")


def test_processes_of_their_own_do_the_same(run, capfd):
    """The other tests run the commands in this process."""
    assert execute(["run", "--rounds", "1", "--run", str(run.root), "--json", "--quiet"]) == 0
    assert json.loads(capfd.readouterr().out)["rounds_complete"] == 1
    assert survivors(run) == [*"0123"]
    assert len([*(run.round(1).path / "unmask").iterdir()]) == 4
