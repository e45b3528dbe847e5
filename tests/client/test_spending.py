"""What private training charges to a client's ledger, and when."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.behind_faults import Commands, restore
from support.interrupted_steps import STEPS, Step, prepare
from support.small_runs import small_run

from fedcli.errors import ConflictError, FedcliError
from fedcli.formats.ledger import LedgerEntry
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
from fedcli.security.noise_key import write_noise_key
from fedcli.steps.train_client import train_client

PLAN = TrainPlan(epochs=1, batch_size=8, dp="example", clip=0.5, noise_multiplier=2.0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spending")
    write_noise_key(folder / "key", outside=Path("elsewhere"))
    return small_run(folder / "fedrun", Plan(train=PLAN), clients=("0", "1")).root.parent


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Run:
    shutil.copytree(template, tmp_path / "here")
    return Run.open(tmp_path / "here" / "fedrun")


def train(run: Run, client: str = "0", **more: Any) -> tuple[LedgerEntry, ...]:
    execution = Execution(threads=1, state=more.pop("state", None))
    key = run.root.parent / "key"
    train_client(run, [client], noise_key=key, execution=execution, **more)
    return LedgerStore(run, execution.state).read(client).entries


def test_the_same_step_is_one_event_and_other_inputs_one_more(run: Run) -> None:
    (first,) = train(run)
    assert train(run) == (first,)
    assert train(run, force=True) == (first,)
    with pytest.raises(ConflictError, match="lr"):
        train(run, options={"lr": 0.5})
    assert LedgerStore(run).read("0").entries == (first,)
    both = train(run, options={"lr": 0.5}, force=True)
    assert len(both) == 2
    assert first in both
    assert train(run, force=True) == both


def test_runs_that_share_a_folder_share_a_budget(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (first,) = train(run, state=state)
    other = small_run(tmp_path / "here" / "other", Plan(train=replace(PLAN, lr=0.2)))
    both = train(other, state=state)
    assert {entry.run for entry in both} == {run.id, other.id}
    assert first in both
    assert LedgerStore(run, state).path("0") == state / "privacy" / "0.json"


def test_a_ledger_that_was_lost_is_charged_for_an_update_that_exists(run: Run) -> None:
    (first,) = train(run)
    LedgerStore(run).path("0").unlink()
    assert train(run) == (first,)
    train_client(run, ["0"], noise_key=run.root.parent / "key")  # with all threads
    assert LedgerStore(run).read("0").entries == (first,)


def test_what_fails_before_anything_can_be_read_costs_nothing(run: Run) -> None:
    with pytest.raises(FedcliError, match="diverged"):
        train(run, options={"lr": 1e38, "epochs": 20})
    assert LedgerStore(run).read("0").entries == ()


def test_algorithms_that_record_their_length_are_charged_too(run: Run) -> None:
    """What they record is added to a record that holds what was spent."""
    for number, algorithm in enumerate(("fednova", "scaffold", "feddyn"), 1):
        options = {"algorithm": algorithm}
        if algorithm == "scaffold":
            options["scaffold_option"] = 2
        assert len(train(run, options=options, force=True)) == number


PRIVATE_STEPS = {name: step for name, step in STEPS.items() if "private" in name}


@pytest.mark.parametrize("step", PRIVATE_STEPS.values(), ids=PRIVATE_STEPS.keys())
def test_the_ledger_is_on_the_disk_before_anything_of_a_step_can_be_read(
    behind_faults: Commands, step: Step, tmp_path: Path
) -> None:
    before, folder = tmp_path / "before", tmp_path / "folder"
    prepare(behind_faults, step, before)
    restore(folder, before)
    ended = behind_faults(folder, *step.words)
    assert ended.status == 0, ended.err
    calls = ended.calls
    charged = calls.index("replace fedrun/privacy/1.json")
    assert calls[charged - 1].startswith("fsync fedrun/privacy/")
    assert calls[charged + 1] == "fsync fedrun/privacy"
    appear = [call for call in calls if call.startswith(("replace", "link"))]
    heartbeat = "replace fedrun/rounds/0001/training/1.json"
    assert next(call for call in appear if call != heartbeat) == calls[charged]
