"""Steps as jobs of Slurm: what is submitted together becomes one job array."""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fedcli.errors import FedcliError, StepLostError, StorageError, UsageError
from fedcli.execution.engine import Ending, Task, failed, settle, stopped
from fedcli.execution.place import Place
from fedcli.execution.slurm_job import lost, read_answer
from fedcli.execution.slurm_queue import JobState, SlurmQueue, complaint
from fedcli.execution.slurm_submission import SlurmSubmitter
from fedcli.execution.worker import Setting
from fedcli.user_code import in_one_line

_GATHERING = 0.2  # seconds in which steps that are submitted join one array
_INTERVAL = 0.5  # seconds between two looks for answers, which are files
_JOBS_A_SECOND = 100  # of which the controller is asked; at least two seconds apart
_AT_LEAST, _AT_MOST = 2.0, 30.0  # seconds between two questions to it
# What sbatch says of a controller that does not answer now, rather than of a job that it refuses.
_PASSING = ("contact slurm controller", "timed out", "temporarily", "try again", "Slurm backup")


@dataclass
class _Step:
    """A step under way; ``answer`` is one that waits for Slurm's word on how the job ended."""

    request: Mapping[str, Any]
    future: Future[Ending] = field(default_factory=Future)
    answer: Mapping[str, Any] | None = None
    gone_since: float | None = None

    @property
    def command(self) -> str:
        return str(self.request["words"][1])


class SlurmEngine:
    """Steps as tasks of job arrays, which a thread of this process submits and watches."""

    is_here = False

    def __init__(self, rest: str, place: Place, setting: Setting) -> None:
        """Raise ``UsageError`` for a word after ``slurm:``."""
        if rest:
            hint = "options of sbatch go into --executor-option: --executor-option partition=NAME"
            raise UsageError(f"--executor: expected slurm, found 'slurm:{rest}'", hint=hint)
        self._place, self._setting = place, setting
        name = f"fedcli-{secrets.token_hex(4)}"
        self._queue = SlurmQueue(name)
        self._folder = setting.run.with_name(f"{setting.run.name}.logs") / name
        self._submitter: SlurmSubmitter | None = None
        self._waiting: list[_Step] = []
        self._open: dict[str, _Step] = {}
        self._lost: list[str] = []
        self._asked = 0.0
        self._is_stopping = False
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def connect(self) -> None:
        """See ``Engine``; versions are checked by each job, before its step."""
        if self._submitter is not None:
            return
        place, largest = self._place, self._queue.largest_array()
        self._submitter = SlurmSubmitter(
            self._folder, self._queue.name, place.limits, place.engine_options, largest
        )
        self._thread.start()

    def submit(self, task: Task) -> Future[Ending]:
        """See ``Engine``."""
        step = _Step(self._setting.request(task))
        with self._lock:
            if self._is_stopping or self._submitter is None:
                return failed(stopped())
            self._waiting.append(step)
        self._wake.set()
        return step.future

    def stop(self) -> None:
        """See ``Engine``; jobs that wait or run are cancelled."""
        with self._lock:
            self._is_stopping = True
        if self._submitter is None:
            return
        self._wake.set()
        self._thread.join()
        unfinished = list(self._open.values())
        for step in [*self._waiting, *unfinished]:
            settle(step.future, _stop_it)
        if unfinished:
            self._queue.cancel()
        else:
            self._queue.cancel_waiting()
        self._submitter.close(self._lost)
        self._submitter = None

    def _work(self) -> None:
        """Watch until all is stopped; a watch that breaks leaves no step without an end."""
        assert self._submitter is not None
        try:
            self._watch(self._submitter)
        except Exception as error:
            with self._lock:
                self._is_stopping = True
            broken = StepLostError(f"the jobs of Slurm are not watched: {in_one_line(error)}")
            for step in [*self._waiting, *self._open.values()]:
                step.future.set_exception(broken)

    def _watch(self, submitter: SlurmSubmitter) -> None:
        """Submit what waits, and look after what is open."""
        while not self._is_stopping:
            self._wake.wait(_INTERVAL if self._open else None)
            if self._wake.is_set():
                time.sleep(_GATHERING)
                self._wake.clear()
                self._submit_waiting(submitter)
            self._read_answers(submitter)
            if self._open and time.monotonic() - self._asked > self._pause():
                self._ask_slurm(submitter)

    def _submit_waiting(self, submitter: SlurmSubmitter) -> None:
        with self._lock:
            steps, self._waiting = self._waiting, []
        for array in submitter.arrays(steps):
            self._hand_over(submitter, array)

    def _hand_over(self, submitter: SlurmSubmitter, steps: Sequence[_Step]) -> None:
        try:
            if self._is_stopping:
                raise stopped()
            jobs = submitter.submit([step.request for step in steps])
        except Exception as error:
            for step in steps:
                step.future.set_exception(_refused(error))
            return
        self._open.update(zip(jobs, steps, strict=True))

    def _read_answers(self, submitter: SlurmSubmitter) -> None:
        for job in submitter.answered() & self._open.keys():
            step = self._open[job]
            if step.answer is None:
                try:
                    answer = submitter.answer(job)
                except FedcliError as error:
                    answer = {"error": error.as_json()}
                if _is_lost(answer):
                    step.answer = answer
                else:
                    self._finish(submitter, job, answer)

    def _finish(self, submitter: SlurmSubmitter, job: str, answer: Mapping[str, Any]) -> None:
        settle(self._open.pop(job).future, partial(read_answer, answer))
        submitter.forget(job)

    def _ask_slurm(self, submitter: SlurmSubmitter) -> None:
        """Find jobs that have ended without an answer."""
        self._asked = time.monotonic()
        states = self._queue.states()
        if states is None:  # the controller may be back later, and jobs run without it
            return
        for job, step in list(self._open.items()):
            state = states.get(job)
            if self._has_ended(step, state):
                error = lost(step.command, job, state, submitter.log(job))
                if step.answer is not None and isinstance(error, StepLostError):
                    self._finish(submitter, job, step.answer)
                    continue
                self._lost.append(job)
                self._open.pop(job).future.set_exception(error)

    def _has_ended(self, step: _Step, state: JobState | None) -> bool:
        """Whether no answer can come any more; one of a complete job may be late on NFS."""
        if state is not None and state.is_active:
            step.gone_since = None
            return False
        if step.answer is not None or (state is not None and state.name != "COMPLETED"):
            return True
        if step.gone_since is None:
            step.gone_since = self._asked
        return self._asked - step.gone_since >= self._setting.wait

    def _pause(self) -> float:
        return min(_AT_MOST, max(_AT_LEAST, len(self._open) / _JOBS_A_SECOND))


def _stop_it() -> Ending:
    raise stopped()


def _is_lost(answer: Mapping[str, Any]) -> bool:
    return bool(answer.get("error", {}).get("kind") == StepLostError.kind)


def _refused(error: Exception) -> FedcliError:
    """Return the error of steps that sbatch did not take."""
    if isinstance(error, FedcliError):
        return error
    if isinstance(error, OSError):
        return StorageError(f"--executor slurm: {error}")
    said = complaint(str(error))
    if any(words in said for words in _PASSING):
        return StepLostError(f"Slurm took no jobs: {said}")
    hint = "see --resources and --executor-option; too many jobs at a time: --jobs N"
    return UsageError(f"--executor slurm: sbatch refused the job: {said}", hint=hint)
