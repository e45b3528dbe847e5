"""Rules that choose among clients by distance: Krum, Multi-Krum, the first stage of Bulyan.

All use the squared distances (n, n) between the clients' updates.
"""

import numpy as np

from fedcli.formats.dtypes import Values


def squared_distances(gram: Values) -> Values:
    """Return |Δ_i - Δ_j|² (n, n) from the inner products Δ_i · Δ_j."""
    squares = gram.diagonal()
    return np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)


def krum_scores(distances: Values, byzantine: int) -> Values:
    """Return the score of each client, Blanchard et al. 2017, section 4; the lowest is best.

    It is the sum of the squared distances to the n - f - 2 nearest others, at least one.
    """
    others = distances + np.diag(np.full(len(distances), np.inf))
    nearest = min(max(1, len(distances) - byzantine - 2), len(distances) - 1)
    scores: Values = np.sort(others, axis=1)[:, :nearest].sum(axis=1)
    return scores


def lowest(scores: Values, count: int) -> tuple[int, ...]:
    """Return the positions of the lowest scores in client order; the first client wins a tie."""
    return tuple(sorted(np.argsort(scores, kind="stable")[:count].tolist()))


def bulyan_selection(distances: Values, byzantine: int) -> tuple[int, ...]:
    """Return n - 2f clients, chosen by repeated Krum: El Mhamdi et al. 2018, section 4.

    Each chosen client is removed before the next choice. The last choices are among fewer than
    2f + 3 clients; Krum then uses one neighbour even if n - f - 2 < 1.
    """
    remaining = list(range(len(distances)))
    chosen = []
    for _ in range(len(distances) - 2 * byzantine):
        scores = krum_scores(distances[np.ix_(remaining, remaining)], byzantine)
        chosen.append(remaining.pop(int(np.argmin(scores))))
    return tuple(sorted(chosen))
