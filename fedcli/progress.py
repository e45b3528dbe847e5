"""Progress reports of steps to their caller; a step itself prints nothing."""

from collections.abc import Callable
from typing import Protocol

Label = str | Callable[[], str]


class Progress(Protocol):
    """The interface for progress reports of a step."""

    def start(self, label: Label, total: int) -> None:
        """Begin a phase of ``total`` units, which lasts until the next phase.

        A label that is a function is called whenever the phase is shown, and says how far it is.
        """

    def advance(self, count: int = 1) -> None:
        """Report that ``count`` more units are done."""

    def say(self, line: str) -> None:
        """Report a line worth keeping, such as the results of an epoch."""


class Silence:
    """Progress that is discarded: the default of every step."""

    def start(self, label: Label, total: int) -> None:
        """Pass over it."""

    def advance(self, count: int = 1) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Pass over it."""
