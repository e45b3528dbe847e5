"""ROC curves, the area under them (AUC), and how far the area is from chance."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.evaluation import RocCurve

MOST_POINTS = 200
Z = 1.959964  # the 97.5th percentile of the standard normal distribution

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """An AUC with its 95 % interval; None where it is not defined."""

    auc: float | None = None
    interval: tuple[float, float] | None = None


def area_of_two(margin: Floats, labels: Ints) -> Area:
    """Return the area under the ROC curve of two classes, of which the second is the positive one.

    ``margin`` (N,) is the logit of the second class minus that of the first, ``labels`` (N,) are
    0 or 1. Without examples of one class there is no area.
    """
    return _area([_against_the_rest(margin, labels == 1)], labels)


def area_of_many(logits: NDArray[np.float32], labels: Ints) -> Area:
    """Return the mean over classes of the area of each class against the rest.

    ``logits`` are (N, K), ``labels`` (N,). Examples are ordered by the probability of the class.
    Classes without examples do not count; there is no area with fewer than two classes.
    """
    largest = logits.max(1).astype(np.float64)
    shifted = np.zeros(len(labels))
    for column in logits.T:
        shifted += np.exp(column - largest)
    total = largest + np.log(shifted)
    present = np.unique(labels).tolist()
    # the logarithm orders probabilities that are rounded to 1
    parts = [_against_the_rest(logits[:, k] - total, labels == k) for k in present]
    return _area(parts, labels)


def _against_the_rest(scores: Floats, positive: Flags) -> tuple[float, Floats] | None:
    """Return the AUC and the placements (N,), or None if one of the two classes is absent.

    The AUC is the probability that a positive example scores above a negative one, where ties
    count half (the Mann-Whitney statistic; Hanley & McNeil 1982). The placement of an example is
    the share of the other class that it is on the right side of, divided by the size of its own
    class, so that the placements of either class sum to the AUC.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(scores)
    ranked, hits = scores[order], positive[order]
    first, last = (np.searchsorted(ranked, ranked, side) for side in ("left", "right"))
    up_to = np.concatenate([[0], np.cumsum(hits)])
    # twice the number below, so that ties keep the counts whole
    positives_below = up_to[first] + up_to[last]
    negatives_below = first + last - positives_below
    pairs = 2 * positives * negatives
    placements = np.empty(len(scores))
    placements[order] = np.where(hits, negatives_below, 2 * positives - positives_below) / pairs
    return float(negatives_below[hits].sum()) / pairs, placements


def _area(parts: list[tuple[float, Floats] | None], labels: Ints) -> Area:
    known = [part for part in parts if part is not None]
    if not known:
        return Area()
    auc = sum(part[0] for part in known) / len(known)
    placements = sum((part[1] for part in known), np.zeros(len(labels))) / len(known)
    return Area(auc, _interval(auc, placements, labels))


def _interval(auc: float, placements: Floats, labels: Ints) -> tuple[float, float] | None:
    """Return the 95 % interval, on the logit scale, which keeps it within 0 and 1 (Pepe 2003).

    The variance is that of DeLong et al. 1988, extended to a mean of areas: examples are
    independent, and their placements vary within their class. None if a class has one example,
    whose variation nobody can know.
    """
    sizes = np.bincount(labels)
    present = sizes > 0
    if (sizes[present] < 2).any():
        return None
    means = np.bincount(labels, placements) / np.maximum(sizes, 1)
    squares = np.bincount(labels, (placements - means[labels]) ** 2)
    variance = float((sizes * squares)[present] @ (1 / (sizes[present] - 1)))
    if variance == 0 or not 0 < auc < 1:
        return auc, auc
    middle = math.log(auc / (1 - auc))
    reach = Z * math.sqrt(variance) / (auc * (1 - auc))
    return _logistic(middle - reach), _logistic(middle + reach)


def _logistic(value: float) -> float:
    return 0.5 + 0.5 * math.tanh(value / 2)


def roc_curve(margin: Floats, labels: Ints) -> RocCurve | None:
    """Return the ROC curve of two classes, from the highest threshold to the lowest.

    None if one class is absent. Its corners are exact; of more than ``MOST_POINTS``, those remain
    that spread most evenly along the curve.
    """
    positive = labels == 1
    positives = int(positive.sum())
    if positives in (0, len(labels)):
        return None
    order = np.argsort(-margin)
    ends = np.flatnonzero(np.diff(margin[order], append=-np.inf))
    true = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    false = np.concatenate([[0], ends + 1]) - true
    kept = _spread_out(_corners(false, true), false / false[-1] + true / true[-1])
    return RocCurve(tuple(false[kept].tolist()), tuple(true[kept].tolist()))


def _corners(x: Ints, y: Ints) -> Ints:
    """Return the indices of the points at which a curve turns, with its ends."""
    dx, dy = np.diff(x), np.diff(y)
    turns = np.flatnonzero(dx[:-1] * dy[1:] != dx[1:] * dy[:-1]) + 1
    return np.concatenate([[0], turns, [len(x) - 1]])


def _spread_out(indices: Ints, length: Floats) -> Ints:
    """Return at most ``MOST_POINTS`` of the indices, evenly spread by the length up to each."""
    if len(indices) <= MOST_POINTS:
        return indices
    wanted = np.linspace(0, length[-1], MOST_POINTS)
    nearest = np.searchsorted(length[indices], wanted).clip(max=len(indices) - 1)
    return np.unique(indices[nearest])
