"""An engine that the steps of several runs share, a fixed number at a time."""

import sys
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from fedcli.execution.engine import Ending, Engine, Task, failed, settle, stopped
from fedcli.execution.launching import Steps


class Workers:
    """At most ``count`` steps at a time, of any number of runs; None sets no limit.

    A step that waits starts as soon as another one ends, whichever run it belongs to: no core is
    idle while any run has a step to do. Each has ``threads`` unless its command line says
    otherwise; None leaves it to the run. What stays where the command was typed runs in ``here``,
    by default the same.
    """

    def __init__(
        self, engine: Engine, count: int | None, threads: int | None, here: "Workers | None" = None
    ) -> None:
        self.engine, self.threads, self._here = engine, threads, here
        self._count = sys.maxsize if count is None else count
        self._waiting: deque[tuple[Task, Future[Ending]]] = deque()
        self._under_way = 0
        self._is_filling = False
        self._lock = threading.Lock()

    def steps(self, run: Path, wait: float = 0) -> Steps:
        """Return the steps of one run; when they are stopped, those of others go on."""
        here = None if self._here is None else _Share(self._here)
        return Steps(run, _Share(self), here, wait=wait)

    def stop(self) -> None:
        """Stop the steps of all runs."""
        for place in (self, self._here):
            if place is not None:
                place.engine.stop()

    def submit(self, task: Task) -> Future[Ending]:
        """Run a step in its turn; see ``Engine``."""
        outer: Future[Ending] = Future()
        with self._lock:
            self._waiting.append((replace(task, threads=self.threads or task.threads), outer))
        self._fill()
        return outer

    def _fill(self) -> None:
        """Start what there is room for, in one loop, whatever ends meanwhile."""
        with self._lock:
            if self._is_filling:
                return
            self._is_filling = True
        while (found := self._next()) is not None:
            task, outer = found
            self.engine.submit(task).add_done_callback(partial(self._finish, outer))

    def _next(self) -> tuple[Task, Future[Ending]] | None:
        with self._lock:
            while self._waiting and self._under_way < self._count:
                task, outer = self._waiting.popleft()
                if outer.set_running_or_notify_cancel():
                    self._under_way += 1
                    return task, outer
            self._is_filling = False
            return None

    def _finish(self, outer: Future[Ending], inner: Future[Ending]) -> None:
        with self._lock:
            self._under_way -= 1
        settle(outer, inner.result)
        self._fill()


class _Share:
    """The share of one run: an ``Engine``."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.is_here = workers.engine.is_here
        self._futures: set[Future[Ending]] = set()
        self._stopped = False

    def connect(self) -> None:
        """See ``Engine``."""
        self._workers.engine.connect()

    def submit(self, task: Task) -> Future[Ending]:
        """See ``Engine``."""
        if self._stopped:
            return failed(stopped())
        future = self._workers.submit(task)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def stop(self) -> None:
        """Start no more; the running ones, at most those of a round, deliver."""
        self._stopped = True
        for future in list(self._futures):
            future.cancel()
