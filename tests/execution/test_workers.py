"""Processes that several runs share: how many at a time, and whom a stop concerns."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedcli.errors import ClientFailedError
from fedcli.execution.engines.local import LocalEngine
from fedcli.execution.local import Launch
from fedcli.execution.workers import Workers


class Recorder:
    """Starts nothing: a step lasts until it is let go."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.threads: set[int | None] = set()
        self.go = threading.Event()
        self.full = threading.Barrier(3)
        self._lock = threading.Lock()

    def run(self, launch: Launch) -> int:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.threads.add(launch.threads)
        if not self.go.is_set():
            self.full.wait(10)
            self.go.wait(10)
        with self._lock:
            self.running -= 1
        launch.out.write(b"{}")
        return 0

    def stop(self) -> None:
        self.go.set()


def test_runs_share_the_processes_and_none_is_idle(tmp_path: Path) -> None:
    recorder = Recorder()
    workers = Workers(LocalEngine(recorder), 2, 1)
    runs = [workers.steps(tmp_path / name) for name in "ab"]
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(run.launch, "status", threads=4) for run in runs * 4]
        recorder.full.wait(10)  # two run, whichever they are
        assert recorder.running == 2
        recorder.go.set()
    assert [one.result() for one in found] == [{}] * 8
    assert recorder.most == 2
    assert recorder.threads == {1}  # the cores are divided among all


def test_a_stop_of_one_run_leaves_the_others(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.go.set()
    workers = Workers(LocalEngine(recorder), 2, None)
    with workers.steps(tmp_path / "a") as ended:
        pass
    with pytest.raises(ClientFailedError, match="stopped"):
        ended.launch("status")
    assert workers.steps(tmp_path / "b").launch("status") == {}
