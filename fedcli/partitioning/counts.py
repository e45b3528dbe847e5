"""Count labels, and apportion whole examples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcli.partitioning.pool import Indices, Labels, Rng


def label_counts(labels: Labels, num_classes: int) -> list[int]:
    """Count the examples of each class."""
    return [int(count) for count in np.bincount(labels, minlength=num_classes)]


def apportioned(exact: NDArray[np.float64], total: int, rng: Rng) -> Labels:
    """Round shares that add up to ``total`` to integers with the same sum.

    Shares are rounded down, and the rest goes to the largest remainders, ties in random order.
    """
    quota = np.floor(exact).astype(np.int64)
    order = rng.permutation(len(exact))
    order = order[np.argsort(-(exact - quota)[order], kind="stable")]
    quota[order[: total - int(quota.sum())]] += 1
    return quota


def stratified_sample(
    labels: Labels, count: int, rng: Rng, groups: Labels | None = None
) -> Indices:
    """Choose ``count`` examples in proportion to the classes; return sorted indices.

    Class quotas are rounded down, and the rest goes to the largest remainders, ties in random
    order. With groups, each class is also sampled in proportion to them: a group's quota is
    rounded down or up at random, without bias.
    """
    sizes = np.bincount(labels)
    quota = apportioned(sizes * count / max(len(labels), 1), count, rng)
    chosen = []
    for label, wanted in enumerate(quota):
        members = rng.permutation(np.flatnonzero(labels == label))
        if groups is None:
            chosen.append(members[:wanted])
        else:
            chosen.append(_spread(members, groups[members], int(wanted), rng))
    return np.sort(joined(chosen))


def _spread(members: Indices, groups: Labels, wanted: int, rng: Rng) -> Indices:
    """Sort members by group, and choose evenly spaced ones from a random start."""
    if not wanted:
        return members[:0]
    names, numbers = np.unique(groups, return_inverse=True)
    row = members[np.argsort(rng.permutation(len(names))[numbers], kind="stable")]
    places = (rng.random() + np.arange(wanted)) * len(row) / wanted
    return row[np.minimum(places.astype(np.int64), len(row) - 1)]


def joined(pieces: Sequence[Indices]) -> Indices:
    """Concatenate indices, also if there are none."""
    return np.concatenate([np.empty(0, np.int64), *pieces])
