"""Rules that choose among clients by distance: Krum and Multi-Krum.

Both use the squared distances (n, n) between the clients' updates.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.dtypes import Values
from fedcli.strategies.decision import Distances

ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of |Δ_i - Δ_j|², over |Δ_i|² + |Δ_j|²
_MOST_AGAIN = 384  # scores computed again: each takes as long as reading every update
_FLOAT32 = float(np.finfo(np.float32).eps)


def squared_distances(gram: Values) -> Values:
    """Return |Δ_i - Δ_j|² (n, n) from the inner products Δ_i · Δ_j, which they overwrite."""
    squares = gram.diagonal().copy()
    for row, square in zip(gram, squares, strict=True):
        row *= -2
        row += square + squares
        np.maximum(row, 0, out=row)
    return gram


def krum_scores(distances: Values, byzantine: int) -> Values:
    """Return the score of each client, Blanchard et al. 2017, section 4; the lowest is best.

    It is the sum of the squared distances to the n - f - 2 nearest others, at least one.
    """
    others = distances + np.diag(np.full(len(distances), np.inf))
    nearest = neighbours(len(distances), byzantine)
    scores: Values = np.sort(others, axis=1)[:, :nearest].sum(axis=1)
    return scores


def krum_of_many(distances: Distances, byzantine: int, count: int) -> tuple[int, ...]:
    """Return the positions of the ``count`` lowest Krum scores, as ``lowest`` does.

    Scores that rounding may have put in another order are computed again from exact distances;
    hundreds of them are as good as equal.
    """
    panels = [_nearest(distances.rows(first), first, byzantine) for first in distances.panels]
    scores = np.concatenate(panels)
    errors = _rounding(scores, distances.squares, neighbours(len(scores), byzantine))
    lowest_last, highest_last = (
        np.partition(bound, count - 1)[count - 1] for bound in (scores - errors, scores + errors)
    )
    certain = scores + errors < lowest_last
    close = np.flatnonzero((scores - errors <= highest_last) & ~certain)
    left = count - np.count_nonzero(certain)
    if left < len(close) <= _MOST_AGAIN:
        exact = distances.exact_rows(close.tolist())
        scores[close] = _scores_of(exact, close, byzantine)
    among = close[np.argsort(scores[close], kind="stable")][:left]
    return tuple(sorted([*np.flatnonzero(certain).tolist(), *among.tolist()]))


def _rounding(scores: Values, squares: Values, nearest: int) -> Values:
    """Return by how much scores of float32 distances may be off.

    A distance is rounded to float32, and has the rounding of |Δ_i|² + |Δ_j|² - 2 Δ_i · Δ_j, where
    |Δ_j|² ≤ 2 |Δ_i|² + 2 |Δ_i - Δ_j|².
    """
    errors: Values = _FLOAT32 * scores + ROUNDING * (3 * nearest * squares + 2 * scores)
    return np.where(np.isfinite(scores), errors, 0)


def _nearest(rows: NDArray[np.floating[Any]], first: int, byzantine: int) -> Values:
    """Return the scores of a panel of rows; see ``krum_scores``."""
    return _scores_of(rows, np.arange(first, first + len(rows)), byzantine)


def _scores_of(rows: NDArray[np.floating[Any]], which: NDArray[np.intp], byzantine: int) -> Values:
    """Return the scores of the clients ``which``, whose distances to all are ``rows``."""
    count = rows.shape[1]
    rows[np.arange(len(rows)), which] = np.inf
    nearest = neighbours(count, byzantine)
    scores: Values = np.partition(rows, nearest - 1, axis=1)[:, :nearest].sum(1, np.float64)
    return scores


def neighbours(count: int, byzantine: int) -> int:
    """Return how many nearest others make up a score."""
    return min(max(1, count - byzantine - 2), count - 1)


def lowest(scores: Values, count: int) -> tuple[int, ...]:
    """Return the positions of the lowest scores in client order; the first client wins a tie."""
    return tuple(sorted(np.argsort(scores, kind="stable")[:count].tolist()))
