"""Split the test examples so that each client is tested on data like its own."""

from collections.abc import Sequence

import numpy as np

from fedcli.partitioning.counts import apportioned, joined
from fedcli.partitioning.pool import Indices, Labels, Rng


def like_training(
    labels: Labels, training_counts: Sequence[Sequence[int]], rng: Rng
) -> list[Indices]:
    """Split each class of test examples between clients in the proportions of training.

    ``training_counts`` is (clients, classes). Each test example goes to one client, or to none if
    no client trains on its class.
    """
    counts = np.array(training_counts)
    pieces: list[list[Indices]] = [[] for _ in counts]
    for label in np.flatnonzero(counts.any(axis=0)):
        members = rng.permutation(np.flatnonzero(labels == label))
        exact = len(members) * counts[:, label] / counts[:, label].sum()
        quota = apportioned(exact, len(members), rng)
        for own, piece in zip(pieces, np.split(members, np.cumsum(quota)[:-1]), strict=True):
            own.append(piece)
    return [np.sort(joined(own)) for own in pieces]


def by_group(groups: Labels, owned: Sequence[Sequence[int]]) -> list[Indices]:
    """Give each client the test examples of its groups; other groups go to no client."""
    return [np.flatnonzero(np.isin(groups, own)) for own in owned]
