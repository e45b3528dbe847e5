"""Progress reports of steps to their caller; a step itself prints nothing."""

from typing import Protocol


class Progress(Protocol):
    """The interface for progress reports of a step."""

    def start(self, label: str, total: int) -> None:
        """Begin a phase of ``total`` units, which lasts until the next phase."""

    def advance(self, count: int = 1) -> None:
        """Report that ``count`` more units are done."""

    def say(self, line: str) -> None:
        """Report a line worth keeping, such as the results of an epoch."""


class Silence:
    """Progress that is discarded: the default of every step."""

    def start(self, label: str, total: int) -> None:
        """Pass over it."""

    def advance(self, count: int = 1) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Pass over it."""
