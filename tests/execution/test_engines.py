"""Engines: the same models wherever clients train, retries, and what each place refuses."""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.runs import Finished, fedcli

from fedcli import __version__
from fedcli.errors import ClientFailedError, FedcliError, NotReadyError, StepLostError, UsageError
from fedcli.execution import worker
from fedcli.execution.engine import Ending, Task, failed
from fedcli.execution.engines import engines_at
from fedcli.execution.engines.dask import DaskEngine
from fedcli.execution.engines.executor import ExecutorEngine
from fedcli.execution.in_flight import finished
from fedcli.execution.launching import Steps
from fedcli.execution.place import Place
from fedcli.execution.resources import Resources
from fedcli.execution.retrying import Retrying
from fedcli.execution.worker import Setting
from fedcli.execution.workers import Workers
from fedcli.run.round import Round

SMALL = ("--model", "linear", "--limit", "240", "--epochs", "1")
THREADS = "concurrent.futures:ThreadPoolExecutor"
PROCESSES = "concurrent.futures:ProcessPoolExecutor"
LOKY = "loky:get_reusable_executor"


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was just made, to be copied."""
    folder = tmp_path_factory.mktemp("cut")
    done = fedcli("partition", *SMALL, cwd=folder)
    assert done.status == 0, done.err
    return folder / "fedrun"


@pytest.fixture(scope="module")
def expected(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the model of round 2, as trained on this machine."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(cut, folder / "fedrun")
    done = fedcli("run", "--rounds", 2, "--threads", 1, cwd=folder)
    assert done.status == 0, done.err
    return digest(folder)


@pytest.fixture
def run(cut: Path, tmp_path: Path) -> Callable[..., Finished]:
    shutil.copytree(cut, tmp_path / "fedrun")
    return lambda *words: fedcli("run", "--rounds", 2, *words, cwd=tmp_path)


def digest(folder: Path) -> str:
    model = Round(folder / "fedrun", 2).global_model
    return hashlib.sha256(model.read_bytes()).hexdigest()


@pytest.mark.parametrize("factory", [THREADS, PROCESSES, LOKY])
def test_any_executor_makes_the_bytes_of_this_machine(
    run: Callable[..., Finished], factory: str, expected: str, tmp_path: Path
) -> None:
    pytest.importorskip(factory.partition(".")[0].partition(":")[0])
    done = run("--executor", factory, "--executor-option", "max_workers=2")
    assert done.status == 0, done.err
    assert "round 2/2 done" in done.err
    assert digest(tmp_path) == expected


def test_a_sweep_goes_through_the_same_door(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        "[data]\nlimit = 60\n[partition]\nclients = 2\n[model]\nmodel = 'linear'\n"
        "[train]\nepochs = 1\n[run]\nrounds = 1\n[sweep]\nseed = [0, 1]\n"
    )
    here = fedcli("sweep", "e.toml", "--out", "here", cwd=tmp_path)
    assert here.status == 0, here.err
    words = ("--executor", PROCESSES, "--executor-option", "max_workers=2")
    there = fedcli("sweep", "e.toml", "--out", "there", *words, cwd=tmp_path)
    assert there.status == 0, there.err
    for name in ("seed0", "seed1"):
        one, other = (Round(tmp_path / out / name, 1).global_model for out in ("here", "there"))
        assert one.read_bytes() == other.read_bytes()


class Instant:
    """An engine whose steps end at once, the first ones lost; it counts them."""

    is_here = False

    def __init__(self, lost: int = 0, error: FedcliError | None = None) -> None:
        self.lost, self.error = lost, error or StepLostError("its worker died")
        self.tasks: list[Task] = []

    def connect(self) -> None:
        """There is nobody."""

    def submit(self, task: Task) -> Future[Ending]:
        self.tasks.append(task)
        if len(self.tasks) <= self.lost:
            return failed(self.error)
        future: Future[Ending] = Future()
        future.set_result(Ending(0, b"{}", b""))
        return future

    def stop(self) -> None:
        """Nothing runs."""


STEP = Task(("fedcli", "status"))


@pytest.mark.parametrize(("lost", "retries", "ends_well"), [(2, 2, True), (3, 2, False)])
def test_a_lost_step_is_submitted_again(lost: int, retries: int, ends_well: bool) -> None:
    said: list[str] = []
    engine = Instant(lost)
    future = Retrying(engine, retries, said.append).submit(STEP)
    assert (future.exception() is None) == ends_well
    assert len(engine.tasks) == 3
    assert said == ["trying again: its worker died"] * 2


def test_what_a_step_reports_is_no_reason_to_try_again() -> None:
    engine = Instant(1, NotReadyError("no model"))
    assert isinstance(Retrying(engine, 2, print).submit(STEP).exception(), NotReadyError)
    assert len(engine.tasks) == 1


def test_ten_thousand_steps_that_end_at_once_are_no_deep_recursion() -> None:
    engine = Instant()
    workers = Workers(engine, 3, 4)
    futures = [workers.submit(STEP) for _ in range(10_000)]
    assert all(future.done() for future in futures)
    assert {task.threads for task in engine.tasks} == {4}
    done = finished(workers.submit, [STEP] * 10_000, 7)
    assert sum(1 for _ in done) == 10_000


def test_no_more_steps_are_under_way_than_the_limit() -> None:
    open_: list[Future[int]] = []

    def submit(item: int) -> Future[int]:
        open_.append(Future())
        return open_[-1]

    threading.Timer(0.01, lambda: [future.set_result(0) for future in list(open_)]).start()
    done = finished(submit, range(5), 2)
    next(done)
    assert len(open_) == 2
    next(done)
    assert len(open_) == 3  # one more for the one that had ended


class Breaking(Executor):
    """An executor that is broken, as one of processes is after a worker has died."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise BrokenExecutor("a worker died")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, tmp_path, ("linear",), 0)


def test_a_broken_executor_is_made_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcli.execution.engines.executor.perform", lambda _: (3, b"", b"said"))
    made: list[Executor] = [Breaking(), ThreadPoolExecutor(1)]
    engine = ExecutorEngine("mine", lambda: made.pop(0), setting)
    engine._executor = engine._make()
    assert engine.submit(STEP).result(60) == Ending(3, b"", b"said")
    engine.stop()
    assert "stopped" in str(engine.submit(STEP).exception())


def test_whatever_an_executor_raises_is_a_lost_step(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError("connection reset\nby peer")

    monkeypatch.setattr("fedcli.execution.engines.executor.perform", fail)
    engine = ExecutorEngine("mine", lambda: ThreadPoolExecutor(1), setting)
    engine.connect()
    error = engine.submit(STEP).exception(60)
    engine.stop()
    assert isinstance(error, StepLostError)
    assert error.message == "mine lost the step: OSError: connection reset"


def test_after_a_stop_every_step_is_done(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(
        "fedcli.execution.engines.executor.perform", lambda _: go.wait(60) and (0, b"{}", b"")
    )
    engine = ExecutorEngine("mine", lambda: ThreadPoolExecutor(1), setting)
    engine.connect()
    futures = [engine.submit(STEP) for _ in range(3)]
    engine.stop()
    assert [str(future.exception(60)) for future in futures] == ["stopped"] * 3
    go.set()


def test_a_worker_with_other_versions_does_nothing(setting: Setting) -> None:
    request = setting.request(STEP)
    request["versions"] = {**worker.versions(), "torch": "1.0"}
    status, printed, _ = worker.perform(request)
    assert status == 3
    assert "expected torch 1.0, found" in json.loads(printed)["error"]["message"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ModuleNotFoundError("No module named 'fedcli'"), "fedcli cannot be used there"),
        ({"versions": {"fedcli": "0.0.1"}}, f"expected fedcli {__version__}, found 0.0.1"),
        ({"sees": False}, "/mnt/run is not there"),
    ],
)
def test_a_worker_that_cannot_take_part_is_named(answer: Any, said: str) -> None:
    if isinstance(answer, dict):
        answer = {"host": "node7", "versions": worker.versions(), "sees": True, **answer}
    with pytest.raises(NotReadyError, match=r"worker tcp://n7:1") as caught:
        worker.check_greeting("tcp://n7:1", answer, Path("/mnt/run"))
    assert said in caught.value.message


def test_builds_of_torch_for_a_gpu_and_for_a_cpu_are_one_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.9.1+cu128")
    assert worker.versions()["torch"] == "2.9.1"


def test_what_was_written_is_waited_for(tmp_path: Path) -> None:
    class Elsewhere(Instant):
        is_here = False

    steps = Steps(tmp_path, Elsewhere(), wait=60)
    late = tmp_path / "folder" / "file"

    def write() -> None:
        late.parent.mkdir()
        late.touch()

    threading.Timer(0.05, write).start()
    steps.see([late])
    with pytest.raises(NotReadyError, match="not visible here after 0 s"):
        Steps(tmp_path, Elsewhere()).see([tmp_path / "never"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu=1,mem=8GB,cpus=4,time=30m", (1, 8 * 10**9, 4, 1800)),
        ("mem=512MiB", (None, 2**29, None, None)),
        ("time=2h, gpu=2", (2, None, None, 7200)),
        ("", (None, None, None, None)),
    ],
)
def test_resources(text: str, expected: tuple[int | None, ...]) -> None:
    found = Resources.parse(text)
    assert (found.gpu, found.mem, found.cpus, found.time) == expected


@pytest.mark.parametrize(
    "text",
    [
        "gpu",
        "gpu=0",
        "gpu=1.5",
        "gpu=1,gpu=2",
        "mem=8",
        "mem=8parsecs",
        "time=30",
        "tpu=1",
        ",",
        "=1",
    ],
)
def test_resources_that_nobody_understands(text: str) -> None:
    with pytest.raises(UsageError, match="--resources"):
        Place(executor="dask:x", resources=text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resources": "gpu=1"}, "--resources: has no meaning with --executor local"),
        ({"retries": 1}, "--retries: has no meaning with --executor local"),
        ({"wait": 5}, "--wait: has no meaning"),
        ({"executor": "dask:x", "executor_option": ("timeout",)}, "expected KEY=VALUE"),
        ({"executor": "dask:x", "retries": -1}, "--retries: expected"),
    ],
)
def test_places_that_cannot_be_meant(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Place(**given)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("executor", "given", "said"),
    [
        ("dusk", {}, "--executor: unknown value 'dusk'; known: local, dask:ADDRESS"),
        ("dask:", {}, "--executor: unknown value 'dask:'"),
        ("dask:h:1", {"resources": "time=1h"}, "--resources time: the engine dask has no such"),
        ("dask:h:1", {"executor_option": ("timeout=5m",)}, "timeout: expected a positive number"),
        (THREADS, {"resources": "gpu=1"}, "--resources gpu: the engine concurrent.futures:Thread"),
        ("no_such_module:x", {}, "--executor no_such_module:x: cannot be imported"),
    ],
)
def test_engines_that_do_not_exist_or_do_less(
    executor: str, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        engines_at(Place(executor=executor, **given), tmp_path, (), print)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("factory", "options", "said"),
    [
        ("os:getcwd", (), "expected an executor of concurrent.futures, found str"),
        (THREADS, ("max_workers=0",), "failed: ValueError: max_workers must be"),
        (THREADS, ("size=2",), "failed: TypeError: "),
    ],
)
def test_factories_that_make_no_executor(
    factory: str, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    at = engines_at(Place(executor=factory, executor_option=options), tmp_path, (), print)
    with pytest.raises(UsageError) as caught:
        at.engine.connect()
    at.stop()
    assert said in caught.value.message


def test_threads_are_always_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Place().threads is None  # shared out by whoever knows this machine
    assert Place(executor="dask:x").threads == 1
    assert Place(executor="dask:x", resources="cpus=4").threads == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert Place(executor="dask:x").threads == 3


def test_options_of_an_engine_are_numbers_where_they_look_like_it() -> None:
    words = ("a=1", "b=0.5", "c=true", "d=main", "e=1,2", "f=")
    found = Place(executor="x:y", executor_option=words).engine_options
    assert found == {"a": 1, "b": 0.5, "c": True, "d": "main", "e": "1,2", "f": ""}


def test_dask_is_an_extra(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    engine = DaskEngine("127.0.0.1:9", Place(executor="dask:127.0.0.1:9"), setting)
    with pytest.raises(FedcliError, match="needs the package distributed") as caught:
        engine.connect()
    engine.stop()
    assert (caught.value.status, caught.value.hint) == (1, "pip install 'fedcli[dask]'")
    assert isinstance(caught.value, FedcliError)
    assert not isinstance(caught.value, ClientFailedError)
