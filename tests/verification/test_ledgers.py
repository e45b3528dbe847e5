"""``verify`` finds a ledger that lacks what an update of the run has spent."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian
from support.sample_runs import make_run
from support.small_runs import small_run

from fedcli.cli import execute
from fedcli.formats.ledger import Ledger, LedgerEntry
from fedcli.formats.manifest import Manifest
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.privacy import sampled
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


def test_what_was_spent_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status = verify(run.root).privacy
    assert status is not None
    assert status.largest == status.examples[0].epsilon
    assert status.largest is not None
    execute(["verify", "--run", str(run.root)])
    said = f"each example: ε = {status.largest:.3f} at δ = 1e-05, by ledger"
    assert said in capsys.readouterr().out


def test_without_the_extra_a_run_is_verified_and_its_epsilon_is_not(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled._distribution.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    result = verify(run.root)
    assert (result.sound, result.privacy) == (True, None)
    (note,) = [one for one in result.findings if one.file == "run.json"]
    assert note.problem == Problem.NOTE
    assert "ε is not computed" in note.message


def test_a_round_that_hides_clients_lists_what_it_spent(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", accuracies=(0.5, 0.6))
    entry = LedgerEntry(run.id, 2, 1, "a" * 64, gaussian(5))
    for number, entries in ((1, ()), (2, (entry,))):
        path = run.round(number).manifest
        made = Manifest.read(path)
        assert made is not None
        hidden = {"update_noise": 5.0, "update_clip": 1.0}
        replace(made, client_level=hidden, privacy=entries).write(path)
    said = "lists nothing that its noisy sum has spent"
    found = [one for one in verify(run.root).findings if one.message == said]
    assert found == [Finding("rounds/0001/aggregate.json", Problem.CHANGED, said)]
