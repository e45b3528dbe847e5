"""How many clients train at a time: the rules for cores and for a GPU, and who follows them."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import run_info

from fedcli.errors import ClientFailedError
from fedcli.execution.engines.local import LocalEngine
from fedcli.execution.jobs import jobs_by_cores, jobs_by_memory, threads_each
from fedcli.execution.launching import Steps
from fedcli.execution.local import NewProcesses
from fedcli.execution.scheduler import Capacity, ClientScheduler
from fedcli.execution.step_arguments import StepOptions
from fedcli.formats.telemetry import Telemetry
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.storage.atomic import write_bytes


def duration(clients: int, jobs: int, cores: int) -> Fraction:
    """Let clients of one unit of work run on cores that those that run share evenly."""
    waiting, running, clock = clients, [], Fraction(0)
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Fraction(1))
            waiting -= 1
        speed = min(Fraction(1), Fraction(cores, len(running)))
        least = min(running)
        clock += least / speed
        running = [work - least for work in running if work > least]
    return clock


@pytest.mark.parametrize(
    ("clients", "cores", "jobs"),
    [(1, 8, 1), (3, 8, 3), (2, 2, 2), (3, 2, 3), (4, 2, 2), (5, 2, 3), (17, 16, 17), (9, 1, 1)],
)
def test_so_many_clients_train_on_so_many_cores(clients: int, cores: int, jobs: int) -> None:
    assert jobs_by_cores(clients, cores) == jobs


@given(st.integers(1, 40), st.integers(1, 12))
def test_no_fewer_clients_at_a_time_end_as_soon_and_no_more_are_much_sooner(
    clients: int, cores: int
) -> None:
    jobs = jobs_by_cores(clients, cores)
    chosen = duration(clients, jobs, cores)
    assert all(duration(clients, fewer, cores) > chosen for fewer in range(1, jobs))
    assert all(duration(clients, more, cores) >= chosen for more in range(jobs, 2 * cores))
    assert threads_each(jobs, cores) * jobs <= max(jobs, cores)


@given(st.integers(1, 50), st.integers(0, 2**36), st.integers(0, 2**38))
def test_as_many_clients_as_fit_share_a_gpu(clients: int, peak: int, free: int) -> None:
    jobs = jobs_by_memory(clients, peak, free)
    assert 1 <= jobs <= clients
    if jobs > 1:
        assert jobs * peak < 0.9 * free
    if jobs < clients:
        assert (jobs + 1) * (peak + 2**30) > 0.9 * free


GIB = 2**30


class Processes:
    """Stands in for the steps: a GPU with so much free memory, and clients that take 4 GiB."""

    is_here = True

    def __init__(
        self, run: Run, free: int, side_by_side: int, device: str | None = "cuda:0"
    ) -> None:
        self._run, self._free, self._device = run, free, device
        self._together = threading.Barrier(side_by_side)
        self._pool = ThreadPoolExecutor(9)
        self._lock = threading.Lock()
        self._running = 0
        self.trained: list[str] = []
        self.most = 0

    def probe(self, device: str) -> dict[str, Any]:
        return {"device": "cuda", "free_memory_bytes": self._free}

    def submit(self, command: str, *arguments: str, **_: object) -> Future[dict[str, Any]]:
        return self._pool.submit(self._train, *arguments)

    def _train(self, *arguments: str) -> dict[str, Any]:
        client = arguments[arguments.index("--id") + 1]
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.trained.append(client)
            first = len(self.trained) == 1
        if first:
            assert self._running == 1
        else:
            self._together.wait(30)  # fewer at a time than this never get on
        if self._device:
            told = Telemetry("0" * 64, device=self._device, peak_memory_bytes=4 * GIB)
            told.write(self._run.round(1).telemetry(client))
        with self._lock:
            self._running -= 1
        return {"clients": [{"client": client, "already_done": True}]}

    def see(self, paths: Iterable[Path]) -> None:
        """All is on this machine."""

    def stop(self) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Five clients, of whom the last has the most examples."""
    clients = ("0", "1", "2", "3", "4")
    run = Run.create(tmp_path / "fedrun", run_info(clients))
    for client in clients:
        write_bytes(run.client_shard(client), bytes(10 + int(client)))
    return run


def trained(run: Run, processes: Any, jobs: int | None = None) -> int:
    capacity = Capacity(processes, jobs, StepOptions())
    capacity.probe(5)
    return ClientScheduler(run, processes, capacity, StepOptions(), Silence()).train(
        1, run.info.clients
    )


@pytest.mark.parametrize(("free", "at_a_time"), [(100 * GIB, 4), (11 * GIB, 2), (1 * GIB, 1)])
def test_the_first_client_on_a_gpu_shows_how_many_fit(
    run: Run, free: int, at_a_time: int, unsynced: None
) -> None:
    processes = Processes(run, free, at_a_time)
    assert trained(run, processes) == 5
    assert processes.most == at_a_time
    assert processes.trained[0] == "4"  # the largest


@pytest.mark.parametrize("device", [None, "cpu"])  # of the telemetry, where there is one
def test_without_a_measurement_one_client_after_another_has_the_gpu(
    run: Run, device: str | None
) -> None:
    processes = Processes(run, 100 * GIB, 1, device)
    assert trained(run, processes) == 5
    assert processes.most == 1


def test_a_number_that_is_typed_is_taken_as_it_is(run: Run) -> None:
    class Never(Processes):
        def probe(self, device: str) -> dict[str, Any]:
            raise ClientFailedError("was asked")

    processes = Never(run, 0, 1)
    assert trained(run, processes, jobs=1) == 5


@pytest.mark.parametrize(
    ("jobs", "environment", "typed", "expected"),
    [
        (None, None, None, (3, 2)),  # 7 cores, 3 clients
        (2, None, None, (2, 3)),
        (1, None, None, (1, None)),
        (None, "7", None, (1, None)),
        (None, "3,1", None, (3, None)),
        (None, None, 1, (3, None)),
    ],
)
def test_cores_are_shared_where_nobody_says_how(
    jobs: int | None,
    environment: str | None,
    typed: int | None,
    expected: tuple[int, int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fedcli.execution.scheduler.available_cores", lambda: 7)
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    nobody = Steps(Path(), LocalEngine(NewProcesses()))
    capacity = Capacity(nobody, jobs, StepOptions(execution={"device": "cpu", "threads": typed}))
    capacity.probe(3)
    assert (capacity.jobs(3), capacity.threads(3)) == expected


def test_a_device_that_was_asked_for_is_passed_on_once() -> None:
    options = StepOptions(execution={"device": "cpu", "threads": 2, "compile": True})
    assert options.for_training(1) == [
        *("--round", "1", "--device", "cpu", "--threads", "2", "--compile")
    ]
    assert options.for_evaluation(1) == ["--round", "1", "--device", "cpu", "--threads", "2"]
