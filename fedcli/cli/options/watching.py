"""The options of ``status --watch``."""

import time
from dataclasses import dataclass

from fedcli.options import check, option

_INTERVAL = 2.0  # seconds


@dataclass(frozen=True)
class Watching:
    """Whether to look again and again, and how often."""

    watch: bool = option(
        False, "Look again and again, until the active run ends, or Ctrl-C.", flag=True
    )
    interval: float | None = option(
        None, "Seconds between two looks of `--watch`.", "S", at_least=0.1, at_most=86400, unset="2"
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for an interval out of range."""
        check(self)

    def wait(self) -> None:
        """Let the time between two looks pass."""
        time.sleep(self.interval or _INTERVAL)
