"""Several small clients trained by one process: the same bytes, and no failure takes others."""

import shutil
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import fedcli
from support.small_runs import small_run

from fedcli.client.train import train_client
from fedcli.errors import (
    ClientFailedError,
    DataError,
    FedcliError,
    SeveralFailedError,
    error_from_json,
)
from fedcli.execution.jobs import group_size
from fedcli.execution.scheduler import Capacity, ClientScheduler
from fedcli.execution.step_arguments import StepOptions
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.storage.atomic import write_bytes

SIX = tuple("012345")


@given(st.integers(1, 100_000), st.integers(1, 10**9), st.integers(0, 10**9))
def test_every_job_has_many_groups_to_do(clients: int, jobs: int, largest: int) -> None:
    size = group_size(clients, jobs, largest)
    assert 1 <= size <= max(100, clients // 100)
    assert largest <= 1_000_000 or size == 1
    assert size == 1 or clients / size >= 16 * min(jobs, 32)


def test_ten_thousand_small_clients_are_a_hundred_processes() -> None:
    assert group_size(10_000, 2, 300_000) == 100
    assert group_size(10, 2, 300_000) == 1


def test_processes_that_read_a_file_of_all_clients_do_not_grow_with_their_number() -> None:
    assert group_size(100_000, 2, 300_000) == 1000


# --- one command -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path / "fedrun", clients=SIX, count=6)


def spoil(run: Run, *clients: str) -> None:
    for client in clients:
        run.client_shard(client).write_bytes(b"nothing")


def test_who_fails_keeps_nobody_from_training(run: Run) -> None:
    spoil(run, "1", "4")
    with pytest.raises(SeveralFailedError) as caught:
        train_client(run, SIX)
    error = caught.value
    assert [one.client for one in error.each] == ["1", "4"]
    assert error.message.startswith("2 of 6 clients failed: client 1: ")
    assert "client-4.safetensors" in error.message
    assert error.status == 4
    assert run.round(1).delivered() == ["0", "2", "3", "5"]
    told = error_from_json(error.as_json())
    assert isinstance(told, SeveralFailedError)
    assert ([one.client for one in told.each], told.status) == (["1", "4"], 4)


def test_of_one_that_fails_the_error_is_its_own(run: Run) -> None:
    spoil(run, "1")
    with pytest.raises(FedcliError) as caught:
        train_client(run, ["1-2"])
    assert not isinstance(caught.value, SeveralFailedError)
    assert caught.value.client == "1"
    assert run.round(1).delivered() == ["2"]


def test_the_same_bytes_in_groups_of_any_size(run: Run, tmp_path: Path) -> None:
    found = []
    for size in ("1", "4", "100"):
        root = tmp_path / size
        shutil.copytree(run.root, root)
        done = fedcli(
            *("run", "--run", root, "--rounds", 1, "--no-evaluate", "--clients-per-process", size),
            cwd=tmp_path,
        )
        assert done.status == 0, done.err
        assert done.err.count("loss") == len(SIX)
        files = sorted((root / "rounds").rglob("*.safetensors"))
        found.append({path.relative_to(root): path.read_bytes() for path in files})
    assert len(found[0]) == len(SIX) + 2
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("broken", [("1", "4"), ("1",)])
def test_a_round_goes_on_without_those_of_a_group_that_fail(
    run: Run, tmp_path: Path, broken: tuple[str, ...]
) -> None:
    spoil(run, *broken)
    words = ("run", "--run", run.root, "--rounds", 1, "--no-evaluate")
    done = fedcli(*words, "--clients-per-process", 6, "--min-clients", 4, cwd=tmp_path)
    assert done.status == 0, done.err
    for client in broken:
        assert f"client {client}, round 1: " in done.err
    assert len(run.round(1).delivered()) == 6 - len(broken)
    assert run.round(1).global_model.exists()


def test_without_a_quorum_the_round_ends_with_the_first_that_failed(
    run: Run, tmp_path: Path
) -> None:
    spoil(run, "4")
    words = ("run", "--run", run.root, "--rounds", 1, "--no-evaluate")
    done = fedcli(*words, "--clients-per-process", 6, cwd=tmp_path)
    assert done.status == 4
    assert "client 4, round 1: " in done.err
    assert "train-client --id 4" in done.err


# --- what processes tell -----------------------------------------------------------------------


class Lossy:
    """Stands in for the steps: each process of several clients is lost after its first."""

    is_here = True

    def __init__(self, run: Run) -> None:
        self._run = run
        self.asked: list[tuple[str, ...]] = []

    def submit(self, command: str, *arguments: str, **_: object) -> Future[dict[str, Any]]:
        clients = tuple(arguments[arguments.index("--id") + 1].split(","))
        self.asked.append(clients)
        write_bytes(self._run.round(1).update(clients[0]), b"an update")
        future: Future[dict[str, Any]] = Future()
        if len(clients) > 1:
            future.set_exception(ClientFailedError("train-client ended by SIGKILL"))
        elif clients == ("5",):
            future.set_exception(DataError("no pictures"))
        else:
            future.set_result({"clients": [{"client": clients[0], "already_done": True}]})
        return future

    def see(self, paths: Iterable[Path]) -> None:
        """All is on this machine."""

    def stop(self) -> None:
        pass


class Counting(Silence):
    done = 0

    def advance(self) -> None:
        self.done += 1


def test_what_a_lost_process_did_not_deliver_is_trained_alone(run: Run) -> None:
    steps: Any = Lossy(run)
    options = StepOptions(clients_per_process=3, min_clients=1, execution={"device": "cpu"})
    counting = Counting()
    scheduler = ClientScheduler(run, steps, Capacity(steps, 1, options), options, counting)
    assert scheduler.train(1, SIX) == 5
    assert [len(group) for group in steps.asked] == [3, 3, 1, 1, 1, 1]
    alone = {client for group in steps.asked[2:] for client in group}
    first = {group[0] for group in steps.asked[:2]}
    assert alone == {*SIX} - first
    assert counting.done == len(SIX)
