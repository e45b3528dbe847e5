"""Processes that the steps of several runs share, a fixed number at a time."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from fedcli.errors import ClientFailedError
from fedcli.execution.local import Starter, Steps


class Workers:
    """At most ``count`` steps at a time, of any number of runs.

    A step that waits starts as soon as another one ends, whichever run it belongs to: no core is
    idle while any run has a step to do. Each has ``threads`` unless its command line says
    otherwise; None leaves it to the run.
    """

    def __init__(self, starter: Starter, count: int, threads: int | None) -> None:
        self.starter, self.count, self.threads = starter, count, threads
        self.free = threading.Semaphore(count)

    def steps(self, run: Path) -> Steps:
        """Return the processes of one run; when they are stopped, those of others go on."""
        return Steps(run, _Share(self))


class _Share:
    """The share of one run: a ``Starter``."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._stopped = False

    def run(self, words: Sequence[str], threads: int | None, out: IO[bytes], err: IO[bytes]) -> int:
        """See ``Starter``."""
        with self._workers.free:
            if self._stopped:
                raise ClientFailedError("stopped")
            return self._workers.starter.run(words, self._workers.threads or threads, out, err)

    def stop(self) -> None:
        """Start no more; the running ones, at most those of a round, deliver."""
        self._stopped = True
