"""The first stage of Bulyan: Krum chooses a client, which leaves, and chooses again.

Each choice sorts the distances of all that remain, n³ log n in all. Here the sums of the nearest
distances are kept up to date as clients leave, which takes n² log n. Sums that rounding may have
put in another order are computed again as Krum does, so that the choices are the same.
"""

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.dtypes import Values
from fedcli.strategies.selection import neighbours

_MOST_AGAIN = 1024  # sums computed again for one choice; so many are as good as equal
_EPSILON = float(np.finfo(np.float64).eps)
_PAIRWISE = 64  # roundings of numpy's sum of a row, at most


def bulyan_selection(distances: Values, byzantine: int) -> tuple[int, ...]:
    """Return n - 2f clients, chosen by repeated Krum: El Mhamdi et al. 2018, section 4.

    Each chosen client is removed before the next choice. The last choices are among fewer than
    2f + 3 clients; Krum then uses one neighbour even if n - f - 2 < 1. ``distances`` (n, n) are
    squared; their diagonal is overwritten.
    """
    remaining = _Remaining(distances, byzantine)
    while len(remaining.chosen) < len(distances) - 2 * byzantine:
        remaining.choose()
    return tuple(sorted(remaining.chosen))


class _Remaining:
    """The clients that remain, each with the sum of its nearest distances.

    ``order`` has the others of each client from the nearest to the farthest, ``last`` the place of
    the farthest of its nearest neighbours. ``sums`` are at most ``errors`` off.
    """

    def __init__(self, distances: Values, byzantine: int) -> None:
        count = len(distances)
        self.chosen: list[int] = []
        self._distances, self._byzantine = distances, byzantine
        self._all = np.arange(count)
        self._there = np.ones(count, bool)
        distances[self._all, self._all] = np.inf
        nearest = neighbours(count, byzantine)
        self._order = np.empty((count, count), np.min_scalar_type(count))
        self._sums = np.zeros(count)
        for at, row in enumerate(distances):
            self._order[at] = np.argsort(row)
            self._sums[at] = row[self._order[at, :nearest]].sum()
        self._last = np.full(count, nearest - 1)
        self._unit = _EPSILON * self._sums

    def choose(self) -> None:
        """Choose the client of the lowest sum, the first of several; it leaves."""
        left = np.flatnonzero(self._there)
        best = self._lowest(left)
        self.chosen.append(best)
        self._there[best] = False
        if self._kept_up(len(left) - 1):
            self._leave(best)

    def _kept_up(self, count: int) -> bool:
        """Return whether sums are kept up to date for so many clients, with a neighbour less."""
        return count > self._byzantine + 2 and bool(np.isfinite(self._sums).all())

    def _lowest(self, left: NDArray[np.intp]) -> int:
        if not self._kept_up(len(left)):
            return int(left[np.argmin(self._scores(left, left))])
        sums = self._sums[left]
        errors = (_PAIRWISE + len(self.chosen)) * self._unit[left]
        close = left[sums - errors <= (sums + errors).min()]
        if 1 < len(close) <= _MOST_AGAIN:
            return int(close[np.argmin(self._scores(close, left))])
        return int(left[np.argmin(sums)])

    def _scores(self, which: NDArray[np.intp], left: NDArray[np.intp]) -> Values:
        """Return the scores of some clients among those that are left, as ``krum_scores``."""
        rows = self._distances[np.ix_(which, left)]
        nearest = neighbours(len(left), self._byzantine)
        scores: Values = np.sort(rows, axis=1)[:, :nearest].sum(axis=1)
        return scores

    def _leave(self, gone: int) -> None:
        """Take a client out of all sums, or the farthest neighbour where it is farther."""
        farthest = self._order[self._all, self._last]
        own, limit = self._distances[:, gone], self._distances[self._all, farthest]
        inside = own < limit
        for row in np.flatnonzero((own == limit) & self._there):  # a tie, or the farthest itself
            inside[row] = gone in self._order[row, : self._last[row]]
        self._sums -= np.where(inside, own, limit)
        self._sums[~self._there] = 0
        moved = np.flatnonzero(self._there & ~inside)
        while len(moved):
            self._last[moved] -= 1
            moved = moved[~self._there[self._order[moved, self._last[moved]]]]
