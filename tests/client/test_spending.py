"""What private training charges to a client's ledger, and when."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.behind_faults import Commands, restore
from support.interrupted_steps import STEPS, Step, prepare
from support.small_runs import contents, small_run

from fedcli.errors import BudgetError, ConflictError, FedcliError
from fedcli.formats.ledger import LedgerEntry
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.privacy import epsilon_at
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


def contents_of(run: Run) -> dict[str, bytes]:
    files = (path for path in run.root.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def test_a_step_that_would_pass_the_limit_is_refused_before_anything_is_written(run: Run) -> None:
    (first,) = train(run)
    spent = epsilon_at([first.event], 1e-5)
    twice = epsilon_at([first.event, first.event], 1e-5)
    before = contents_of(run)
    limit = {"max_epsilon": (spent + twice) / 2, "delta": 1e-5}
    with pytest.raises(BudgetError) as caught:
        train(run, options={**limit, "lr": 0.5}, force=True)
    assert contents_of(run) == before
    ledger = LedgerStore(run).path("0")
    assert (caught.value.path, caught.value.client) == (ledger, "0")
    assert caught.value.message == (
        f"{ledger}: this step would spend ε = {twice:.4g} in all at δ = 1e-05, more than"
        f" --max-epsilon {limit['max_epsilon']:g}; {spent:.4g} is spent"
    )
    assert train(run, options=limit) == (first,)  # what is paid may be repeated
    assert train(run, options=limit, force=True) == (first,)
    assert train(run, "1", options=limit)  # a budget of its own
    enough = {"max_epsilon": twice, "delta": 1e-5}
    assert len(train(run, options={**enough, "lr": 0.5}, force=True)) == 2


def test_the_limit_of_the_plan_counts_other_runs_too(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (first,) = train(run, state=state)
    limited = replace(PLAN, max_epsilon=epsilon_at([first.event], 1e-5), delta=1e-5)
    other = small_run(tmp_path / "here" / "other", Plan(train=limited))
    with pytest.raises(BudgetError, match="more than --max-epsilon"):
        train(other, state=state)
    assert not other.round(1).update("0").exists()
    assert train(other)  # a ledger of its own


TARGET = {"dp": "example", "clip": 0.5, "batch_size": 64, "epochs": 3}
TARGET |= {"target_epsilon": 4.0, "target_rounds": 2, "delta": 1e-4}


def test_a_target_chooses_the_noise_and_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    run = small_run(folder / "fedrun", Plan(train=TrainPlan.of(**TARGET)), clients=("0", "1"))
    key = write_noise_key(folder / "key", outside=run.root).path
    (first,) = train(run)
    public = contents(run.round(1).update("0"))[1].training
    assert public.get("noise_multiplier") == first.event.sigma
    assert f"{first.event.sigma:.3g}" == repr(first.event.sigma)
    assert public.get("target_epsilon") is public.get("max_epsilon") is public.get("delta") is None
    bound = replace(first.event, q=public.privacy.q if public.privacy else 0.0, count=2 * 3)
    assert (first.event.count, first.event.q) == (3, 1)
    assert 0.98 * 4 < epsilon_at([bound], 1e-4) <= 4
    assert train(run) == (first,)  # the same noise again
    again = train(run, options={"lr": 0.2}, force=True)
    assert [entry.event for entry in again] == [first.event, first.event]
    with pytest.raises(BudgetError, match=r"more than --target-epsilon 4; 3\.\d+ is spent"):
        train(run, options={"lr": 0.3}, force=True)
    more = {"lr": 0.3, "max_epsilon": 9.0}
    train_client(run, ["0"], options=more, noise_key=key, force=True)
    assert len(LedgerStore(run).read("0").entries) == 3


def test_noise_that_is_typed_replaces_the_target_of_the_plan(tmp_path: Path) -> None:
    run = small_run(tmp_path / "here" / "fedrun", Plan(train=TrainPlan.of(**TARGET)))
    write_noise_key(tmp_path / "here" / "key", outside=run.root)
    (entry,) = train(run, options={"noise_multiplier": 7.0})
    assert entry.event.sigma == 7.0


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
