"""Steps that an engine lost are submitted to it again."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from fedcli.errors import StepLostError
from fedcli.execution.engine import Ending, Engine, Task, settle


class Retrying:
    """An engine that gets a step that it lost once more, up to ``retries`` times."""

    def __init__(self, engine: Engine, retries: int, say: Callable[[str], None]) -> None:
        self._engine, self._retries, self._say = engine, retries, say
        self._is_stopping = False

    @property
    def is_here(self) -> bool:
        """See ``Engine``."""
        return self._engine.is_here

    def connect(self) -> None:
        """See ``Engine``."""
        self._engine.connect()

    def submit(self, task: Task) -> Future[Ending]:
        """See ``Engine``."""
        outer: Future[Ending] = Future()
        self._try(task, self._retries, outer)
        return outer

    def _try(self, task: Task, left: int, outer: Future[Ending]) -> None:
        self._engine.submit(task).add_done_callback(partial(self._finish, task, left, outer))

    def _finish(self, task: Task, left: int, outer: Future[Ending], inner: Future[Ending]) -> None:
        error = None if inner.cancelled() else inner.exception()
        if left and isinstance(error, StepLostError) and not self._is_stopping:
            self._say(f"trying again: {error.message}")
            self._try(task, left - 1, outer)
        else:
            settle(outer, inner.result)

    def stop(self) -> None:
        """See ``Engine``."""
        self._is_stopping = True
        self._engine.stop()
