"""Rules that give every client a weight, from the inner products of the updates alone.

A point v = Σ s_i Δ_i is carried as its coefficients s, so that an iteration costs n² operations
and no look at the values: |Δ_i - v|² = G_ii - 2 (G s)_i + sᵀ G s with G the Gram matrix.
"""

import numpy as np

from fedcli.formats.dtypes import Values

_SETTLED = 1e-12  # relative: however small, the weight of a huge update matters
_ALMOST_ONE = 0.99  # keeps the logit of FoolsGold finite, as its authors do
_SAME = 1e-9  # a cosine that is less than this below 1 is 1 but for rounding


def _distances_to(point: Values, gram: Values) -> Values:
    # Not gram @ point: how a BLAS rounds may depend on its number of threads.
    to_point = (gram * point).sum(axis=1)
    squares = gram.diagonal() - 2 * to_point + (point * to_point).sum()
    distances: Values = np.sqrt(np.maximum(squares, 0))
    return distances


def geometric_median(gram: Values, weights: Values, smoothing: float, iterations: int) -> Values:
    """Return weights, of sum 1, of the geometric median: Pillutla et al. 2022 (RFA).

    The smoothed Weiszfeld algorithm for min Σ w_i |v - Δ_i|, started from the weighted mean. It
    ends early once the weights have settled.
    """
    shares: Values = weights / weights.sum()
    for _ in range(iterations):
        moved = weights / np.maximum(smoothing, _distances_to(shares, gram))
        moved /= moved.sum()
        settled = (np.abs(moved - shares) <= _SETTLED * shares).all()
        shares = moved
        if settled:
            break
    return shares


def centered_clipping(
    gram: Values, clip_norm: float, iterations: int, has_center: bool
) -> tuple[Values, float]:
    """Return coefficients of the updates and of the center, Karimireddy et al. 2021, section 4.

    ``v ← v + 1/n Σ (Δ_i - v) min(1, τ / |Δ_i - v|)``. It starts from the center, the last row of
    ``gram`` where there is one, else from 0: the base model.
    """
    count = len(gram) - has_center
    point = np.zeros(len(gram))
    if has_center:
        point[-1] = 1
    for _ in range(iterations):
        distances = _distances_to(point, gram)[:count]
        factors = clip_norm / np.maximum(distances, clip_norm)
        point *= 1 - factors.sum() / count
        point[:count] += factors / count
    return point[:count], float(point[-1]) if has_center else 0.0


def foolsgold(gram: Values) -> Values:
    """Return weights of at most 1, Fung et al. 2020, algorithm 1: the more alike, the less.

    Cosines are of this round's updates, without the history that the paper adds up over rounds,
    and of all parameters. A client that is like no other has weight 1.
    """
    norms = np.sqrt(gram.diagonal())
    scale = np.outer(norms, norms)
    cosines = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    np.fill_diagonal(cosines, -1)
    highest = np.maximum(cosines.max(axis=1), 0)
    # Pardoning: a client that is alike only with those that are more alike with others.
    ratio = np.ones_like(gram)
    np.divide(highest[:, None], highest, out=ratio, where=highest[:, None] < highest)
    weights = np.clip(1 - (cosines * ratio).max(axis=1), 0, 1)
    weights[weights < _SAME] = 0
    if not weights.any():  # all are the same: nobody stands apart
        return np.ones(len(gram))
    weights /= weights.max()
    with np.errstate(divide="ignore"):
        logits = np.log(weights) - np.log(1 - np.minimum(weights, _ALMOST_ONE)) + 0.5
    result: Values = np.clip(logits, 0, 1)
    return result
