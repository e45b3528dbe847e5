"""Make and run all cases of a sweep, several at a time, from where they stand."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedcli.errors import ConflictError, FedcliError, StorageError
from fedcli.execution.engine import Engine
from fedcli.execution.engines import Engines, engines_at
from fedcli.execution.jobs import threads_each
from fedcli.execution.launching import Steps
from fedcli.execution.step_arguments import StepOptions
from fedcli.execution.workers import Workers
from fedcli.experiment.cases import Case
from fedcli.experiment.queue import Queue
from fedcli.experiment.sections import execution_of
from fedcli.experiment.sweep import Sweep, own_model, own_reducer
from fedcli.plan.stopping import Stopping
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.steps.run import RunResult, launch_rounds
from fedcli.steps.stopping import Stop
from fedcli.system import available_cores

_MOST_RUNS = 64  # under way at a time if they run elsewhere: each has a thread here
Standing = Literal["waiting", "part-done", "done", "failed"]


@dataclass(frozen=True)
class SweepRun:
    """Where one run of a sweep stands: ``complete`` of ``rounds`` rounds.

    ``chosen`` are the values that the sweep chose for it, by ``section.key``. ``stopped`` says why
    it ended early; ``error`` and ``hint`` why it failed.
    """

    name: str
    run: Path
    chosen: Mapping[str, Any]
    standing: Standing
    complete: int
    rounds: int
    stopped: Stop | None = None
    error: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """The result of ``sweep``: where each run stands, in the order of the cases."""

    out: Path
    runs: tuple[SweepRun, ...]

    @property
    def failed(self) -> tuple[SweepRun, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.standing == "failed")


def survey(sweep: Sweep) -> SweepResult:
    """Return where the runs stand, by their files alone: a round that failed is not known."""
    return SweepResult(sweep.out, tuple(_standing(sweep, case) for case in sweep.cases))


def _standing(sweep: Sweep, case: Case) -> SweepRun:
    rounds, complete = sweep.rounds(case), 0
    standing: Standing = "waiting"
    try:
        complete = Run.open(sweep.root(case)).latest_round().number
        standing = "done" if complete >= rounds else "part-done"
    except (FedcliError, OSError):  # not there yet; what is wrong with it is said by partition
        pass
    return SweepRun(case.name, sweep.root(case), case.chosen, standing, complete, rounds)


def sweep(
    experiment: Sweep, *, jobs: int | None = None, progress: Progress | None = None
) -> SweepResult:
    """Make the runs of a sweep, and continue each until its rounds are complete.

    ``jobs`` clients at a time, of all runs together; None: one per core, or on a GPU one run after
    the other, with as many clients as fit. A run that fails does not stop the others. Complete
    runs are only checked, and runs that another process works on are left to it. An interrupt
    stops all processes; the next call resumes.

    Raises ``StorageError`` if the folder of the runs cannot be written, and ``UsageError`` for a
    device that is not there.
    """
    progress = progress or Silence()
    models = [name for name in experiment.values("model", "model") if name is not None]
    at = engines_at(experiment.place, experiment.out, tuple(models), progress.say)
    try:
        at.engine.connect()
        workers, jobs = _workers(experiment, at, jobs)
        return _Execution(experiment, workers, jobs, progress).finish()
    finally:
        at.stop()


def _workers(sweep: Sweep, at: Engines, jobs: int | None) -> tuple[Workers, int | None]:
    """Return who runs the steps, and how many clients of one run train at a time."""
    cores, threads = available_cores(), max(sweep.values("run", "threads"), key=lambda n: n or 0)
    if not at.engine.is_here:
        here = Workers(at.here, cores, 1)
        return Workers(at.engine, jobs, threads or sweep.place.threads, here), jobs
    if jobs is None and _has_gpu(sweep, at.engine):
        return Workers(at.engine, cores, None), None
    jobs = jobs or max(1, cores // (threads or 1))
    return Workers(at.engine, jobs, threads_each(jobs, cores)), jobs


def _has_gpu(sweep: Sweep, engine: Engine) -> bool:
    steps = Steps(sweep.out, engine)
    devices = {name or "auto" for name in sweep.values("run", "device")} - {"cpu"}
    return any(steps.probe(name)["device"] != "cpu" for name in sorted(devices))


class _Execution:
    """The threads that each take one run after the other; the work itself is in processes."""

    def __init__(
        self, sweep: Sweep, workers: Workers, jobs: int | None, progress: Progress
    ) -> None:
        self.sweep, self._workers, self._jobs, self._progress = sweep, workers, jobs, progress
        self._cases = {case.name: case for case in sweep.cases}
        self.queue = Queue({n: sweep.root(c) for n, c in self._cases.items()}, progress.say)
        self._sources = {
            case.name: source
            for group in sweep.groups()
            for source in [_Source(self, group[0])]
            for case in group
        }
        self._found: dict[str, SweepRun] = {}

    def finish(self) -> SweepResult:
        """Run all cases; an interrupt, or an error of the sweep itself, stops the processes."""
        total = sum(self.sweep.rounds(case) for case in self.sweep.cases)
        self._progress.start("rounds", total)
        at_a_time = self._runs_at_a_time()
        with ThreadPoolExecutor(at_a_time) as pool:
            try:
                for future in as_completed([pool.submit(self._work) for _ in range(at_a_time)]):
                    future.result()
            except BaseException:
                self.queue.end()
                self._workers.stop()
                raise
        return SweepResult(self.sweep.out, tuple(self._found[name] for name in self._cases))

    def _runs_at_a_time(self) -> int:
        """Return how many runs are under way: with a queue elsewhere all of them, up to a limit."""
        most = 1 if self._workers.engine.is_here else _MOST_RUNS
        return min(self._jobs or most, len(self._cases))

    def _steps(self, root: Path) -> Steps:
        return self._workers.steps(root, self.sweep.place.seconds)

    def _work(self) -> None:
        while (taken := self.queue.take()) is not None:
            name, held = taken
            with held:
                self._found[name] = self._outcome(self._cases[name])

    def _outcome(self, case: Case) -> SweepRun:
        progress = _OneRun(self._progress, self.sweep, case)
        try:
            self._make(case)
            result = self._continue(case, progress)
        except (FedcliError, OSError) as error:
            return self._failure(case, error)
        finally:
            progress.end()
        return replace(_standing(self.sweep, case), standing="done", stopped=result.stopped)

    def _failure(self, case: Case, error: FedcliError | OSError) -> SweepRun:
        found = error if isinstance(error, FedcliError) else StorageError(str(error))
        if not self.queue.ended:  # else it was stopped, with all others
            self._progress.say(f"{case.name}: failed: {found.message}")
        standing = _standing(self.sweep, case)
        return replace(standing, standing="failed", error=found.message, hint=found.hint)

    def _make(self, case: Case) -> None:
        """Make a run; the first of those with the same data reads it, the others copy."""
        source = self._sources[case.name].ready()
        if source != self.sweep.root(case):
            self.partition(case, source)

    def partition(self, case: Case, source: Path | None = None) -> None:
        """Launch ``fedcli partition``, which finds what is there already."""
        root = self.sweep.root(case)
        try:
            words = self.sweep.partition_words(case, source)
            self._steps(root).launch("partition", *words)
        except ConflictError as error:
            raise error.amended(hint=f"use another --out, or remove {root}") from None

    def _continue(self, case: Case, progress: Progress) -> RunResult:
        """Do what ``fedcli run`` does, in the processes that all runs share."""
        run, given = Run.open(self.sweep.root(case)), case.settings["run"]
        reducer = own_reducer(case)
        options = StepOptions(
            aggregation={} if reducer is None else {"reduce": reducer},
            execution=execution_of(given),
            min_clients=given.get("min_clients"),
            exclude=given.get("exclude", ()),
            own_model=own_model(case),
            noise_key=self.sweep.training_noise_key(case),
            central_noise_key=self.sweep.central_noise_key(case),
            clients_per_process=given.get("clients_per_process"),
            fan_out=given.get("fan_out"),
        )
        return launch_rounds(
            self._steps(run.root),
            run,
            self.sweep.rounds(case),
            options,
            jobs=self._jobs,
            evaluate=given.get("evaluate", True),
            keep_updates=given.get("keep_updates"),
            stopping=Stopping(**self.sweep.of_run(case, Stopping)),
            progress=progress,
            say_clients=False,
        )


class _Source:
    """The run whose clients and examples those of a group have; the first one that asks makes it.

    Another sweep may be making it, or use it at the same time.
    """

    def __init__(self, execution: _Execution, first: Case) -> None:
        self._execution, self._first = execution, first
        self._lock = threading.Lock()
        self._asked = False
        self._run: Path | None = None

    def ready(self) -> Path | None:
        """Return the run, or None if it cannot be made, which its own turn will tell."""
        with self._lock:
            if not self._asked:
                self._run = self._made()
                self._asked = True
            return self._run

    def _made(self) -> Path | None:
        root = self._execution.sweep.root(self._first)
        with self._execution.queue.until_made(self._first.name, root):
            try:
                self._execution.partition(self._first)
            except FedcliError:
                return None
        return root


class _OneRun:
    """The progress of one run, as a part of that of the sweep."""

    def __init__(self, progress: Progress, sweep: Sweep, case: Case) -> None:
        self._progress, self._sweep, self._case = progress, sweep, case
        self._counted = 0

    def start(self, label: str | Callable[[], str], total: int) -> None:
        """Pass over it: rounds are counted."""

    def advance(self, count: int = 1) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Say which run it is about."""
        self._progress.say(f"{self._case.name}: {line}")
        self._count(_standing(self._sweep, self._case).complete)

    def end(self) -> None:
        """Count rounds that will not come as well."""
        self._count(self._sweep.rounds(self._case))

    def _count(self, complete: int) -> None:
        if complete > self._counted:
            self._progress.advance(complete - self._counted)
            self._counted = complete
