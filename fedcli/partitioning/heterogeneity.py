"""How much the clients of a partition differ, in three figures from 0 (alike) to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Mixes = NDArray[np.float64]

_MOST_CLIENTS = 1000  # for whom all pairs are compared


@dataclass(frozen=True)
class Heterogeneity:
    """The figures of one partition.

    ``jensen_shannon_distance`` is the mean over all pairs of clients of the Jensen-Shannon
    distance of their label distributions: the root of the divergence, to base 2. It is 0 for one
    client; of more than 1000 clients, 1000 spread evenly are compared.

    ``earth_movers_distance`` is the mean over clients of the distance of their label
    distribution p from that of all their examples together, q, with distance 1 between any two
    classes: Σ|p − q| / 2. Zhao et al., "Federated Learning with Non-IID Data" (2018), give
    Σ|p − q|, twice as much.

    ``gini_of_sizes`` is the Gini coefficient of the clients' numbers of examples: the mean
    absolute difference of two clients, over twice the mean size.
    """

    jensen_shannon_distance: float
    earth_movers_distance: float
    gini_of_sizes: float


def heterogeneity(label_counts: Mapping[str, Sequence[int]]) -> Heterogeneity:
    """Measure a partition by each client's number of training examples of each class."""
    # sorted, so that the figures do not depend on the order of the clients
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
    """The entropy of each row in bits; an empty class adds nothing."""
    logarithms = np.log2(mixes, out=np.zeros_like(mixes), where=mixes > 0)
    entropy: Mixes = -(mixes * logarithms).sum(axis=-1)
    return entropy


def _gini(sizes: Counts) -> float:
    ranks = np.arange(1, len(sizes) + 1)
    weighted = 2 * (ranks * np.sort(sizes)).sum() / (len(sizes) * sizes.sum())
    return float(weighted - (len(sizes) + 1) / len(sizes))
