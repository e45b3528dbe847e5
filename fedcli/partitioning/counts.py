"""Counting labels, and sharing out whole examples in proportion."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcli.partitioning.pool import Indices, Labels, Rng


def label_counts(labels: Labels, num_classes: int) -> list[int]:
    """Count the examples of each class."""
    return [int(count) for count in np.bincount(labels, minlength=num_classes)]


def apportioned(exact: NDArray[np.float64], total: int, rng: Rng) -> Labels:
    """Round shares that add up to ``total`` to whole numbers that do so too.

    What is left over by rounding down goes to the largest remainders, ties in random order.
    """
    quota = np.floor(exact).astype(np.int64)
    order = rng.permutation(len(exact))
    order = order[np.argsort(-(exact - quota)[order], kind="stable")]
    quota[order[: total - int(quota.sum())]] += 1
    return quota


def stratified_sample(labels: Labels, count: int, rng: Rng) -> Indices:
    """Choose ``count`` examples that hold each class in proportion; return sorted indices.

    What is left over by rounding down goes to the classes with the largest remainders, ties in
    random order.
    """
    sizes = np.bincount(labels)
    quota = apportioned(sizes * count / max(len(labels), 1), count, rng)
    members = (rng.permutation(np.flatnonzero(labels == label)) for label in range(len(sizes)))
    chosen = [indices[:wanted] for indices, wanted in zip(members, quota, strict=True)]
    return np.sort(joined(chosen))


def joined(pieces: Sequence[Indices]) -> Indices:
    """Put indices together; no pieces give no indices."""
    return np.concatenate([np.empty(0, np.int64), *pieces])
