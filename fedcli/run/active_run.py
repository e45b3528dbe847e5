"""The mark of an active ``fedcli run``: a small file, for ``status`` only.

It is written every few seconds and removed at the end. A killed process leaves it behind, which is
harmless: its age and its process show that it is over. Errors of writing are ignored.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from fedcli.errors import FedcliError
from fedcli.formats.records import Count, FileRecord
from fedcli.run.directory import Run
from fedcli.run.heartbeat import State, age_of, state_of

_INTERVAL = 10.0  # seconds between two writes


@dataclass(frozen=True)
class RunMark(FileRecord):
    """``running.json``: who continues the run with this id until ``rounds`` rounds are complete.

    ``updated`` is in ISO 8601, UTC; ``seconds_left`` is an estimate, None before there is one.
    """

    run: str
    rounds: Count
    host: str
    pid: Count
    updated: str
    seconds_left: float | None = None


class RunMarker:
    """Marks a run as active, inside a ``with`` block; ``left`` estimates the seconds until then."""

    def __init__(
        self, run: Run, rounds: int, left: Callable[[], float | None] = lambda: None
    ) -> None:
        self._path, self._left = run.running_file, left
        self._mark = RunMark(run.id, rounds, socket.gethostname(), os.getpid(), "")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def _write(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(FedcliError, OSError):
            replace(self._mark, updated=now, seconds_left=self._left()).write(self._path)

    def _repeat(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._write()

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(FedcliError, OSError):
            found = RunMark.read(self._path)
            if found is not None and (found.host, found.pid) == (self._mark.host, self._mark.pid):
                self._path.unlink(missing_ok=True)


def forget_killed_run(run: Run) -> None:
    """Remove the mark that a killed ``fedcli run`` left behind."""
    found = read_active_run(run)
    if found is not None and not found.is_active:
        with contextlib.suppress(OSError):
            run.running_file.unlink(missing_ok=True)


@dataclass(frozen=True)
class ActiveRun:
    """A ``fedcli run`` as last reported, ``seconds_ago``; its state is as in ``Training``.

    ``seconds_left`` is its estimate, counted from now.
    """

    rounds: int
    state: State
    seconds_ago: int
    host: str
    pid: int
    seconds_left: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether it goes on, as far as its reports tell."""
        return self.state == "training"


def read_active_run(run: Run) -> ActiveRun | None:
    """Return the last ``fedcli run`` that did not end by itself; None without one.

    An unreadable or invalid file, or one of another run, is ignored.
    """
    try:
        mark = RunMark.read(run.running_file)
        if mark is None or mark.run != run.id:
            return None
        age = age_of(mark.updated)
        state = state_of(mark.host, mark.pid, age)
        left = None if mark.seconds_left is None else max(0, round(mark.seconds_left - age))
    except (FedcliError, TypeError, ValueError, OverflowError):  # an invalid time or pid
        return None
    return ActiveRun(mark.rounds, state, age, mark.host, mark.pid, left)
