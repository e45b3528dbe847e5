"""``pull --wait``: what appears later is fetched, and what does not is named."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.remote_runs import CLIENTS, COORDINATOR, Study

from fedcli.errors import NotReadyError
from fedcli.progress import Silence
from fedcli.steps import pull as pulling

SECONDS = 60.0  # far more than anything here takes


class Spoken(Silence):
    """Progress that keeps what was said, and does something when it is."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.lines: list[str] = []
        self._then = then

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._then()


@pytest.fixture
def share(study: Study, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with round 0 of a study, whose ``pull`` looks often."""
    monkeypatch.setattr(pulling, "_POLL_SECONDS", 0.01)
    study.push(COORDINATOR, study.folder / "share")
    return study.folder / "share"


def deliver(study: Study, share: Path, *clients: str) -> None:
    for client in clients:
        study.pull(client, share)
        study.train(client)
        study.push(client, share)


def test_the_coordinator_waits_for_everybody(study: Study, share: Path) -> None:
    deliver(study, share, "0")
    spoken = Spoken(lambda: deliver(study, share, "1" if len(spoken.lines) == 1 else "2"))
    arrived = study.pull(COORDINATOR, share, wait=SECONDS, progress=spoken)
    assert spoken.lines == ["waiting for 1, 2", "waiting for 2"]
    assert arrived.missing == ()
    assert study.run(COORDINATOR).round(1).delivered() == list(CLIENTS)


def test_a_copy_waits_for_the_next_round(study: Study, share: Path) -> None:
    deliver(study, share, "0", "1", "2")
    study.pull(COORDINATOR, share)
    later = threading.Timer(0.3, lambda: (study.aggregate(), study.push(COORDINATOR, share)))
    later.start()
    arrived = study.pull("0", share, wait=SECONDS)
    later.join()
    assert arrived.placed[-1] == "rounds/0001/global.safetensors"
    assert (arrived.round, "train-client" in arrived.next) == (2, True)


def test_a_copy_begins_as_soon_as_there_is_a_run(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "_POLL_SECONDS", 0.01)
    share = study.folder / "share"
    later = threading.Timer(0.3, lambda: study.push(COORDINATOR, share))
    later.start()
    assert study.pull("0", share, wait=SECONDS).round == 1
    later.join()


def test_who_has_not_come_in_time_is_named(study: Study, share: Path) -> None:
    deliver(study, share, "0")
    with pytest.raises(NotReadyError, match="round 1 still misses 1, 2; what has come"):
        study.pull(COORDINATOR, share, wait=0.05)
    assert study.run(COORDINATOR).round(1).delivered() == ["0"]
    assert study.pull(COORDINATOR, share).missing == ("1", "2")
    assert study.pull(COORDINATOR, share, clients=["0"], wait=0.05).missing == ()
    with pytest.raises(NotReadyError, match="round 1: nothing new has come in time"):
        study.pull("0", share, wait=0.05)


def test_the_command_ends_with_3_and_says_so_in_json(
    study: Study, share: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    root = study.root(COORDINATOR)
    status, printed, _ = cli("pull", share, "--run", root, "--wait", "0.05", "--json")
    found = json.loads(printed)
    assert (status, found["error"]["kind"]) == (3, "not-ready")
    assert "round 1 still misses 0, 1, 2" in found["error"]["message"]
    status, printed, _ = cli("pull", share, "--run", root, "--json")
    assert (status, json.loads(printed)["missing"]) == (0, ["0", "1", "2"])


def test_status_names_pull_where_the_run_names_a_remote(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    root, share = tmp_path / "run", tmp_path / "share"
    words = ("init", "--run", root, "--classes", "x,y", "--clients", "a,b", "--model", "linear")
    assert cli(*words, "--image-size", 8, "--remote", share)[0] == 0
    _, printed, _ = cli("status", "--run", root, "--json")
    assert json.loads(printed)["next"] == f"fedcli pull --wait 3600 --run {root}"


def test_push_is_the_next_command_where_files_travel(
    study: Study, share: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    study.pull("0", share)
    here, there = study.root("0"), study.root(COORDINATOR)

    def following(root: Path) -> dict[str, Any]:
        _, printed, _ = cli("status", "--run", root, "--json")
        found: dict[str, Any] = json.loads(printed)
        return found

    assert "train-client --id 0" in following(here)["next"]
    study.train("0")
    after = following(here)
    assert after["next"] == f"fedcli push REMOTE --run {here}"
    assert (after["at_clients"], after["at_coordinator"]) == ([], None)
    assert "aggregate" in following(there)["at_coordinator"]
