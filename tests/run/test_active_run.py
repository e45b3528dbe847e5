"""The mark of an active ``fedcli run``, which ``status`` shows instead of telling to train."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.grey_runs import Cli
from support.small_runs import small_run

from fedcli.run import Run
from fedcli.run.active_run import RunMark, RunMarker, read_active_run
from fedcli.steps.status import status
from fedcli.storage.atomic import write_json


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A simulation of three clients in the current directory."""
    monkeypatch.chdir(tmp_path)
    return small_run(Path("fedrun"))


def mark(run: Run, /, **changes: object) -> None:
    facts = {
        "run": run.id,
        "rounds": 5,
        "host": "elsewhere",
        "pid": 1,
        "updated": datetime.now(UTC).isoformat(),
    }
    write_json(run.running_file, {"format": 1, **facts, **changes})


def test_an_active_run_needs_no_command(run: Run, cli: Cli) -> None:
    assert status(run).next == "fedcli train-client --id all"
    with RunMarker(run, 7):
        found = status(run)
        assert (found.next, found.at_clients, found.at_coordinator) == (None, (), None)
        assert found.active is not None
        assert (found.active.rounds, found.active.pid) == (7, os.getpid())
        out = cli("status")[1]
        assert "fedcli run --rounds 7" in out
        assert "train-client" not in out
        assert "next: nothing to type: fedcli run is active" in out
    assert not run.running_file.exists()
    assert status(run).next == "fedcli train-client --id all"


def test_an_active_run_says_how_much_time_is_left(run: Run, cli: Cli) -> None:
    with RunMarker(run, 7, lambda: 240.0):
        active = read_active_run(run)
        assert active is not None
        assert active.seconds_left is not None
        assert 230 <= active.seconds_left <= 240
        assert "fedcli run --rounds 7, about 4 min left (process" in cli("status")[1]
    past = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    mark(run, updated=past, seconds_left=10)
    active = read_active_run(run)
    assert active is not None
    assert active.seconds_left == 0
    mark(run, seconds_left=-1e300)
    assert cli("status")[0] == 0


def test_a_run_whose_process_is_gone_is_interrupted(run: Run, cli: Cli) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    with RunMarker(run, 7):
        found = RunMark.read(run.running_file)
    assert found is not None
    mark(run, host=found.host, pid=int(ended.stdout))
    assert status(run).next == "fedcli train-client --id all"
    assert "interrupted" in cli("status")[1]


def test_a_run_on_another_host_is_active_while_it_reports(run: Run) -> None:
    mark(run)
    assert status(run).next is None
    mark(run, updated=(datetime.now(UTC) - timedelta(minutes=2)).isoformat())
    active = read_active_run(run)
    assert active is not None
    assert active.state == "silent"
    assert status(run).next is not None


@pytest.mark.parametrize("changes", [{"run": "0" * 64}, {"updated": "noon"}, {"pid": -1}])
def test_a_mark_that_says_nothing_is_ignored(run: Run, changes: dict[str, object]) -> None:
    mark(run, **{"host": os.uname().nodename, **changes})
    assert read_active_run(run) is None
    run.running_file.write_text("{")
    assert read_active_run(run) is None


def test_the_mark_of_another_process_stays(run: Run) -> None:
    with RunMarker(run, 7):
        mark(run, rounds=9)
    active = read_active_run(run)
    assert active is not None
    assert active.rounds == 9


def test_a_finished_run_leaves_no_mark_and_a_failed_one_neither(run: Run, cli: Cli) -> None:
    assert cli("run", "--rounds", 1, "--threads", 1)[0] == 0
    assert not run.running_file.exists()
    run.client_shard("1").write_text("no shard")
    assert cli("run", "--rounds", 2, "--threads", 1)[0] == 4
    assert not run.running_file.exists()
