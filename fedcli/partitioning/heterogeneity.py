"""Measure how much the clients of a partition differ, in three figures from 0 (alike) to 1."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.partition import Heterogeneity

Counts = NDArray[np.int64]
Mixes = NDArray[np.float64]

_MOST_CLIENTS = 1000  # beyond this, only pairs of a sample are compared


def heterogeneity(label_counts: Mapping[str, Sequence[int]]) -> Heterogeneity:
    """Measure a partition from each client's number of training examples per class."""
    # Sorted, so that the figures do not depend on the order of the clients.
    counts = np.array(sorted(map(tuple, label_counts.values())), np.int64)
    sizes = counts.sum(axis=1)
    mixes = counts / sizes[:, None]
    pool = counts.sum(axis=0) / sizes.sum()
    return Heterogeneity(
        _mean_distance_of_pairs(mixes),
        float(abs(mixes - pool).sum(axis=1).mean() / 2),
        _gini(sizes),
    )


def _mean_distance_of_pairs(mixes: Mixes) -> float:
    if len(mixes) == 1:
        return 0.0
    if len(mixes) > _MOST_CLIENTS:
        mixes = mixes[np.linspace(0, len(mixes) - 1, _MOST_CLIENTS).astype(np.int64)]
    own = _entropy(mixes)
    total = 0.0
    for i in range(len(mixes) - 1):
        middle = _entropy((mixes[i] + mixes[i + 1 :]) / 2)
        divergence = middle - (own[i] + own[i + 1 :]) / 2
        total += float(np.sqrt(divergence.clip(0, 1)).sum())
    return total / (len(mixes) * (len(mixes) - 1) / 2)


def _entropy(mixes: Mixes) -> Mixes:
    """Return the entropy of each row in bits; an empty class adds nothing."""
    logarithms = np.log2(mixes, out=np.zeros_like(mixes), where=mixes > 0)
    entropy: Mixes = -(mixes * logarithms).sum(axis=-1)
    return entropy


def _gini(sizes: Counts) -> float:
    ranks = np.arange(1, len(sizes) + 1)
    weighted = 2 * (ranks * np.sort(sizes)).sum() / (len(sizes) * sizes.sum())
    return float(weighted - (len(sizes) + 1) / len(sizes))
