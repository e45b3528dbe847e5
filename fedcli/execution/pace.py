"""How long the remaining rounds of a run will take, by those that this call has finished."""

import time
from collections.abc import Callable, Sequence

_LATEST = 5  # rounds; the speed of a machine changes over hours
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Pace:
    """Measures rounds up to round ``last``; times are in seconds of ``clock``.

    ``may_end_early`` says that the rounds may be fewer.
    """

    def __init__(
        self, last: int, *, may_end_early: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._last, self._may_end_early, self._clock = last, may_end_early, clock
        self._took: tuple[float, ...] = ()  # replaced whole: other threads read it
        self._round: int | None = None
        self._began = clock()

    def begin(self, number: int) -> None:
        """Start the clock of a round."""
        self._round, self._began = number, self._clock()

    def finish(self, *, counts: bool) -> float:
        """Return how long the round took; ``counts`` says whether others will take as long."""
        took = self._clock() - self._began
        if counts:
            self._took = (*self._took, took)[-_LATEST:]
        return took

    def after(self, number: int) -> str | None:
        """Return in words how long the rounds after this one take; None if unknown, or if none."""
        took, left = self._took, self._last - number
        return self._words(left * _mean(took)) if took and left > 0 else None

    def seconds_left(self) -> float | None:
        """Return how long the open round and those after it take; None if that is unknown."""
        took = self._took
        if self._round is None or not took:
            return None
        open_round = max(0.0, _mean(took) - (self._clock() - self._began))
        return open_round + (self._last - self._round) * _mean(took)

    def label(self) -> str:
        """Return which round it is, and how much time is left if that is known."""
        if self._round is None:
            return "scoring rounds"
        label, left = f"round {self._round}/{self._last}", self.seconds_left()
        return label if left is None else f"{label}, {self._words(left)}"

    def _words(self, seconds: float) -> str:
        return f"{'at most' if self._may_end_early else 'about'} {in_words(seconds)} left"


def _mean(took: Sequence[float]) -> float:
    return sum(took) / len(took)


def in_words(seconds: float) -> str:
    """Return an estimate of a time in few words: ``40 s``, ``4 min``, ``3.3 h``, ``5 days``."""
    if seconds < 9.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 95:
        return f"{round(seconds, -1):.0f} s"
    if seconds < 99.5 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.2g} h"
    return f"{min(seconds, 999 * _DAY) / _DAY:.0f} days"
