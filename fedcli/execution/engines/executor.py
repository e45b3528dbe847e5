"""Steps in any executor of ``concurrent.futures``, such as a user's own factory returns."""

import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any

from fedcli.errors import FedcliError, NotReadyError, StepLostError, UsageError
from fedcli.execution.engine import Ending, Task, failed, settle, stopped
from fedcli.execution.place import Place
from fedcli.execution.worker import Setting, check_greeting, end_here, greet, perform
from fedcli.user_code import in_one_line, load_attribute, with_place

PATIENCE = 60.0  # seconds until the first worker answers


class ExecutorEngine:
    """Steps as calls in an executor, which ``make`` returns, again if the last one is broken."""

    is_here = False

    def __init__(self, name: str, make: Callable[[], Executor], setting: Setting) -> None:
        self._name, self._make, self._setting = name, make, setting
        self._executor: Executor | None = None
        self._open: dict[Future[Ending], Future[Any]] = {}
        self._is_stopping = False
        self._lock = threading.Lock()

    def connect(self) -> None:
        """See ``Engine``; one worker answers, the others do before their first step."""
        if self._executor is not None:
            return
        self._executor = self._make()
        answer: Any
        try:
            answer = self._executor.submit(greet, str(self._setting.run)).result(PATIENCE)
        except TimeoutError:
            raise NotReadyError(
                f"{self._name}: no worker answers within {PATIENCE:.0f} s"
            ) from None
        except Exception as error:
            answer = error
        check_greeting(self._name, answer, self._setting.run)

    def submit(self, task: Task) -> Future[Ending]:
        """See ``Engine``."""
        try:
            inner = self._accepted(self._setting.request(task))
        except Exception as error:
            return failed(stopped() if self._is_stopping else self._lost(error))
        outer: Future[Ending] = Future()
        self._open[outer] = inner
        inner.add_done_callback(partial(self._finish, outer))
        return outer

    def _accepted(self, request: dict[str, Any]) -> Future[Any]:
        """Hand a step to the executor, or to a new one if it is broken for good."""
        with self._lock:
            if self._is_stopping or self._executor is None:
                raise stopped()
            try:
                return self._executor.submit(perform, request)
            except BrokenExecutor:
                self._executor.shutdown(wait=False)
                self._executor = self._make()
                return self._executor.submit(perform, request)

    def _finish(self, outer: Future[Ending], inner: Future[Any]) -> None:
        self._open.pop(outer, None)
        settle(outer, partial(self._ending, inner))

    def _ending(self, inner: Future[Any]) -> Ending:
        try:
            return Ending(*inner.result())
        except CancelledError:
            if self._is_stopping:
                raise stopped() from None
            raise self._cancelled() from None
        except Exception as error:
            raise self._lost(error) from error

    def _cancelled(self) -> FedcliError:
        """Return the error of a step that the executor has cancelled by itself."""
        return StepLostError(f"{self._name} cancelled the step")

    def _lost(self, error: Exception) -> FedcliError:
        if isinstance(error, FedcliError):
            return error
        return StepLostError(f"{self._name} lost the step: {in_one_line(error)}")

    def stop(self) -> None:
        """See ``Engine``; what the executor has begun may end, and then counts."""
        with self._lock:
            self._is_stopping = True
        under_way = list(self._open.items())
        for outer, inner in under_way:
            settle(outer, _stop_it)
            inner.cancel()
        if self._executor is not None:
            with suppress(Exception):  # how it ends changes nothing of what it has done
                self._executor.shutdown(wait=not under_way)
        end_here()


def _stop_it() -> Ending:
    raise stopped()


def from_factory(name: str, place: Place, setting: Setting) -> ExecutorEngine:
    """Return the engine of ``package.module:factory``; options are the factory's arguments.

    Raises ``UsageError``.
    """
    hint = "the factory decides what its executor needs: give it --executor-option K=V"
    place.limits.check_known(("cpus",), name, hint)
    factory = load_attribute(name, "--executor")

    def make() -> Executor:
        try:
            made = factory(**place.engine_options)
        except Exception as error:
            raise UsageError(f"--executor {name}: failed: {with_place(error)}") from error
        if not callable(getattr(made, "submit", None)):
            found = type(made).__name__
            raise UsageError(
                f"--executor {name}: expected an executor of concurrent.futures, found {found}"
            )
        executor: Executor = made
        return executor

    return ExecutorEngine(name, make, setting)
