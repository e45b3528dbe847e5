"""What a worker of an engine does: it keeps a warm process, from which it forks every step.

The functions here are called on other machines. They take and return plain values, so that a
worker with another version of fedcli can still say so.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fedcli import __version__
from fedcli.errors import ClientFailedError, ExitStatus, NotReadyError, StepLostError
from fedcli.execution.engine import Ending, Task, last_line
from fedcli.execution.launching import signal_name
from fedcli.execution.local import Starter, finish, starter_for
from fedcli.execution.visible import missing_after

Answer = tuple[int, bytes, bytes]  # of ``perform``: the fields of ``Ending``

_INTERVAL = 0.5  # seconds between two looks at the parent
_warm: list[Starter] = []  # at most one
_watched: set[int] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Setting:
    """What the steps of one call have in common, wherever they run.

    ``folder`` is the current directory, where a user's own code may be; ``run`` is the folder that
    all workers must see. A worker waits up to ``wait`` seconds for files that a step reads.
    """

    folder: Path
    run: Path
    models: tuple[str, ...]
    wait: float

    def request(self, task: Task) -> dict[str, Any]:
        """Return what ``perform`` is given for a step."""
        return {
            "words": list(task.words),
            "threads": task.threads or 1,
            "needs": list(task.needs),
            "folder": str(self.folder),
            "models": list(self.models),
            "wait": self.wait,
            "versions": versions(),
            "driver": os.getpid(),
        }


def versions() -> dict[str, str]:
    """Return the versions that have to agree, since the bytes of an update depend on them.

    Builds of torch for a GPU and for a CPU are one version.
    """
    try:
        torch = metadata.version("torch").partition("+")[0]
    except metadata.PackageNotFoundError:
        torch = "not installed"
    return {"fedcli": __version__, "torch": torch}


def greet(run: str) -> dict[str, Any]:
    """Say who this worker is, and whether it sees the folder of the runs."""
    return {"host": socket.gethostname(), "versions": versions(), "sees": Path(run).is_dir()}


def check_greeting(name: str, answer: Any, run: Path) -> None:
    """Raise ``NotReadyError`` if a worker cannot take part.

    ``answer`` is what it returned from ``greet``, or the exception that it raised.
    """
    if not isinstance(answer, Mapping):
        raise NotReadyError(
            f"worker {name}: fedcli cannot be used there: {type(answer).__name__}: {answer}",
            hint=f"install fedcli {__version__} where the workers run",
        )
    check_versions(f"worker {name} on {answer['host']}", answer["versions"], versions())
    if not answer["sees"]:
        raise NotReadyError(
            f"worker {name} on {answer['host']}: {run} is not there",
            hint="the run must be on a file system that all workers share, under the same path",
        )


def check_versions(who: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise ``NotReadyError`` if versions differ."""
    for package, version in expected.items():
        if found.get(package) != version:
            raise NotReadyError(
                f"{who}: expected {package} {version}, found {found.get(package)}",
                hint=f"install {package} {version} there, and start its workers again",
            )


def perform(request: Mapping[str, Any]) -> Answer:
    """Run one step to its end, and return how it ended.

    ``request`` is that of ``Setting``. Raises ``StepLostError`` if a signal ended the step.
    """
    host = socket.gethostname()
    _end_with(request["driver"])
    try:
        check_versions(f"worker on {host}", versions(), request["versions"])
    except NotReadyError as error:
        return error.status, json.dumps({"error": error.as_json()}).encode(), b""
    missing_after(map(Path, request["needs"]), request["wait"])  # the step says what is missing
    ending = _finish(request["words"], request["threads"], request["folder"], request["models"])
    if ending.status < 0 or ending.status == ExitStatus.INTERRUPTED:
        raise _interrupted(request["words"][1], host, ending)
    return ending.status, ending.printed, ending.said


def _end_with(driver: int) -> None:
    """End this worker soon after its driver, if that started it.

    The processes of an executor of the standard library would otherwise outlive it for ever.
    """
    with _lock:
        if driver in _watched or os.getppid() != driver:
            return
        _watched.add(driver)
    threading.Thread(target=_watch, args=[driver], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    os._exit(1)  # the warm process ends its steps when its input is closed


def _finish(words: Sequence[str], threads: int, folder: str, models: Sequence[str]) -> Ending:
    starter = _warm_process(models)
    try:
        return finish(starter, words, threads, folder if Path(folder).is_dir() else None)
    except ClientFailedError as error:
        _forget(starter)
        raise StepLostError(error.message) from error


def _warm_process(models: Sequence[str]) -> Starter:
    """Return what starts steps on this worker; it lives as long as the worker."""
    with _lock:
        if not _warm:
            _warm.append(starter_for(*models))
        return _warm[0]


def _forget(starter: Starter) -> None:
    with _lock:
        if starter in _warm:
            _warm.remove(starter)
    starter.stop()


def end_here() -> None:
    """End the steps of this process, if it has been a worker itself."""
    for starter in list(_warm):
        _forget(starter)


def _interrupted(command: str, host: str, ending: Ending) -> StepLostError:
    by = signal_name(-ending.status) if ending.status < 0 else "an interrupt"
    said = last_line(ending.said)
    return StepLostError(
        f"{command} on {host} was ended by {by}{f': {said}' if said else ''}",
        hint="a system that runs out of memory, or a job at its limit of time, ends processes",
    )
