"""What runs steps, on this machine or elsewhere, behind one small protocol."""

import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fedcli.errors import ClientFailedError

Inner = TypeVar("Inner")
Outer = TypeVar("Outer")


@dataclass(frozen=True)
class Task:
    """One step: what ``python -m WORDS`` runs.

    ``threads`` sets ``OMP_NUM_THREADS``; None leaves it to the engine. ``needs`` are files that
    other processes have written, and that this step reads.
    """

    words: tuple[str, ...]
    threads: int | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a step ended: exit status, or minus the signal number, and what it wrote."""

    status: int
    printed: bytes
    said: bytes


class Engine(Protocol):
    """A place where steps run."""

    @property
    def is_here(self) -> bool:
        """Whether steps share the memory, cores and devices of this machine."""

    def connect(self) -> None:
        """Make sure that steps can run, before the first one; repeating it does nothing.

        Raises ``UsageError`` for options that the engine refuses, and ``NotReadyError`` if nobody
        answers, or with other versions of fedcli or torch.
        """

    def submit(self, task: Task) -> Future[Ending]:
        """Run a step as soon as there is room for it; never raise.

        The future raises ``StepLostError`` if the engine lost the step, ``OutOfMemoryError`` if it
        says that memory ran out, and ``ClientFailedError`` for a step that was stopped.
        """

    def stop(self) -> None:
        """Start no more steps, and end those that can be ended; every future is then done."""


def stopped() -> ClientFailedError:
    """Return the error of a step that was not started, or ended, since all were stopped."""
    return ClientFailedError("stopped")


def settle(outer: Future[Outer], result: Callable[[], Outer]) -> None:
    """Give a future what ``result`` returns or raises; what was cancelled counts as stopped.

    A future that is done already stays as it is.
    """
    with contextlib.suppress(InvalidStateError):
        try:
            value = result()
        except CancelledError:
            outer.set_exception(stopped())
        except BaseException as error:
            outer.set_exception(error)
        else:
            outer.set_result(value)


def mapped(inner: Future[Inner], value: Callable[[Inner], Outer]) -> Future[Outer]:
    """Return the future of ``value`` of a result; errors are passed on, also those of ``value``."""
    outer: Future[Outer] = Future()
    inner.add_done_callback(lambda done: settle(outer, lambda: value(done.result())))
    return outer


def last_line(said: bytes) -> str:
    """Return the last line that a process wrote, or an empty text."""
    return "".join(said.decode(errors="replace").strip().splitlines()[-1:])


def failed(error: BaseException) -> Future[Any]:
    """Return a future that has failed already."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
