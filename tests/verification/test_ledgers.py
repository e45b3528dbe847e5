"""``verify`` finds a ledger that lacks what an update of the run has spent."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.small_runs import small_run

from fedcli.formats.ledger import Ledger
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
from fedcli.security.noise_key import write_noise_key
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.verification.findings import Finding, Problem

PLAN = TrainPlan(epochs=1, batch_size=8, dp="example", clip=0.5, noise_multiplier=2.0)
FILE = "privacy/0.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledgers")
    run = small_run(folder / "fedrun", Plan(train=PLAN), clients=("0", "1"))
    key = write_noise_key(folder / "key", outside=run.root).path
    train_client(run, ["0"], noise_key=key, execution=Execution(threads=1))
    return run.root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    shutil.copytree(trained, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


def found(run: Run) -> list[Finding]:
    return [one for one in verify(run.root).findings if one.file == FILE]


def test_a_ledger_with_all_and_with_more_is_sound(run: Run) -> None:
    result = verify(run.root)
    assert (result.sound, found(run)) == (True, [])
    (part,) = [part for part in result.parts if part.what == "ledgers"]
    assert (part.files, part.sound) == (1, 1)
    store = LedgerStore(run)
    (entry,) = store.read("0").entries
    store.add("0", replace(entry, run="another"))
    assert found(run) == []


@pytest.mark.parametrize("field", ["sigma", "count", "q", "round", "run"])
def test_an_event_that_was_removed_or_made_cheaper_is_found(run: Run, field: str) -> None:
    store = LedgerStore(run)
    (entry,) = store.read("0").entries
    changes = {"sigma": 4.0, "count": 1, "q": 1.0}
    if field in changes:
        other = replace(entry, event=replace(entry.event, **{field: changes[field]}))
    else:
        other = replace(entry, run="another") if field == "run" else replace(entry, round=2)
    for entries in ((other,), ()):
        Ledger(entries).write(store.path("0"))
        message = "lacks what rounds/0001/updates/0.safetensors spent"
        assert found(run) == [Finding(FILE, Problem.CHANGED, message)]
        assert not verify(run.root).sound


def test_a_ledger_that_is_elsewhere_is_named_and_no_fault(run: Run) -> None:
    LedgerStore(run).path("0").unlink()
    (finding,) = found(run)
    assert finding.problem == Problem.MISSING
    assert "in a folder of the client's own" in finding.message


def test_a_broken_ledger_is_a_finding(run: Run) -> None:
    LedgerStore(run).path("0").write_text('{"entries": 3}')
    (finding,) = found(run)
    assert finding.problem == Problem.CHANGED
