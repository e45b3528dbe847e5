"""How a step tells whoever called it how far it is; a step itself prints nothing."""

from typing import Protocol


class Progress(Protocol):
    """What a step calls while it works."""

    def start(self, label: str, total: int) -> None:
        """Begin a stretch of ``total`` units; it ends where the next one begins."""

    def advance(self, count: int = 1) -> None:
        """Report that ``count`` more units are done."""

    def say(self, line: str) -> None:
        """Report a line worth keeping, such as the figures of an epoch."""


class Silence:
    """Progress that goes nowhere: the default of every step."""

    def start(self, label: str, total: int) -> None:
        """Pass over it."""

    def advance(self, count: int = 1) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Pass over it."""
