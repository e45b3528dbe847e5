"""Which run of a sweep is next, where several processes work on the same runs."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from fedcli.errors import FedcliError
from fedcli.run import Run
from fedcli.run.active_run import read_active_run
from fedcli.storage.holds import Hold, hold

_LOCKS = ".locks"  # in the folder of the runs
_PAUSE = 0.5  # seconds between two looks at what other processes do


def lock_file(root: Path) -> Path:
    """Return the file that whoever works on a run of a sweep holds."""
    return root.parent / _LOCKS / root.name


def is_active_elsewhere(root: Path) -> bool:
    """Return whether another process continues the run, as ``fedcli run`` does."""
    try:
        active = read_active_run(Run.open(root))
    except (FedcliError, OSError):  # no run yet, or none that can be continued
        return False
    if active is None or not active.is_active:
        return False
    return (active.host, active.pid) != (socket.gethostname(), os.getpid())


class Queue:
    """The runs that nobody has taken yet, by name.

    ``say`` is told once of each run that somebody else works on.
    """

    def __init__(self, roots: Mapping[str, Path], say: Callable[[str], None]) -> None:
        self._waiting = dict(roots)
        self._say = say
        self._told: set[str] = set()
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def take(self) -> tuple[str, Hold] | None:
        """Return the next run, held; wait while others hold all that are left; None at the end.

        A run that another process held may be complete by then.
        """
        while not self._ended.is_set():
            with self._lock:
                if not self._waiting:
                    return None
                for name in [*self._waiting]:
                    held = self._try(name)
                    if held is not None:
                        del self._waiting[name]
                        self._taken.add(name)
                        return name, held
            self._ended.wait(_PAUSE)
        return None

    def _try(self, name: str) -> Hold | None:
        root = self._waiting[name]
        held = hold(lock_file(root))
        if held is not None and is_active_elsewhere(root):
            held.release()
            held = None
        if held is None and name not in self._told:
            self._told.add(name)
            self._say(f"{name}: another process is at it")
        return held

    def until_made(self, name: str, root: Path) -> contextlib.AbstractContextManager[object]:
        """Hold a run that this process has not taken, until it is made; wait if others make it."""
        while not (name in self._taken or self.ended or (root / "run.json").exists()):
            held = hold(lock_file(root))
            if held is not None:
                return held
            self._ended.wait(_PAUSE)
        return contextlib.nullcontext()

    def end(self) -> None:
        """Give out no more."""
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether it gives out no more."""
        return self._ended.is_set()
