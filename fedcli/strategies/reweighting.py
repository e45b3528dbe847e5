"""Rules that compute a weight for every client from the inner products of the updates alone.

A point v = Σ s_i Δ_i is stored as its coefficients s, so that an iteration costs n² operations and
reads no values: |Δ_i - v|² = G_ii - 2 (G s)_i + sᵀ G s, where G is the Gram matrix.
"""

import numpy as np

from fedcli.formats.dtypes import Values

_SETTLED = 1e-12  # relative: even a tiny weight of a huge update matters
_ALMOST_ONE = 0.99  # keeps the logit of FoolsGold finite, as in the authors' code
_SAME = 1e-9  # a cosine this close to 1 is 1 up to rounding


def _distances_to(point: Values, gram: Values) -> Values:
    # Not gram @ point: the rounding of a BLAS may depend on its number of threads.
    to_point = (gram * point).sum(axis=1)
    squares = gram.diagonal() - 2 * to_point + (point * to_point).sum()
    distances: Values = np.sqrt(np.maximum(squares, 0))
    return distances


def geometric_median(
    gram: Values, weights: Values, smoothing: float, iterations: int
) -> tuple[Values, bool]:
    """Return the weights of the geometric median, with sum 1: Pillutla et al. 2022 (RFA).

    Uses the smoothed Weiszfeld algorithm for min Σ w_i |v - Δ_i|, starting from the weighted mean
    and stopping early when the weights have converged. Also returns whether they have.
    """
    shares: Values = weights / weights.sum()
    for _ in range(iterations):
        moved = weights / np.maximum(smoothing, _distances_to(shares, gram))
        moved /= moved.sum()
        settled = (np.abs(moved - shares) <= _SETTLED * shares).all()
        shares = moved
        if settled:
            return shares, True
    return shares, False


def centered_clipping(
    gram: Values, clip_norm: float, iterations: int, has_center: bool
) -> tuple[Values, float]:
    """Return coefficients of the updates and of the center, Karimireddy et al. 2021, section 4.

    ``v ← v + 1/n Σ (Δ_i - v) min(1, τ / |Δ_i - v|)``. It starts from the center, which is the last
    row of ``gram`` with ``has_center``, else from 0, the base model.
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
    """Return weights of at most 1, lower for similar clients: Fung et al. 2020, algorithm 1.

    Cosines use all parameters of this round's updates, without the paper's history over rounds.
    A client that is similar to no other has weight 1.
    """
    norms = np.sqrt(gram.diagonal())
    scale = np.outer(norms, norms)
    cosines = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    np.fill_diagonal(cosines, -1)
    highest = np.maximum(cosines.max(axis=1), 0)
    # Pardon a client that is similar only to clients that are more similar to others.
    ratio = np.ones_like(gram)
    np.divide(highest[:, None], highest, out=ratio, where=highest[:, None] < highest)
    weights = np.clip(1 - (cosines * ratio).max(axis=1), 0, 1)
    weights[weights < _SAME] = 0
    if not weights.any():  # all updates are the same, so none can be singled out
        return np.ones(len(gram))
    weights /= weights.max()
    with np.errstate(divide="ignore"):
        logits = np.log(weights) - np.log(1 - np.minimum(weights, _ALMOST_ONE)) + 0.5
    result: Values = np.clip(logits, 0, 1)
    return result
