"""Sharing out the test examples: each client is tested on data like its own."""

from collections.abc import Sequence

import numpy as np

from fedcli.partitioning.counts import apportioned, joined
from fedcli.partitioning.pool import Indices, Labels, Rng


def like_training(
    labels: Labels, training_counts: Sequence[Sequence[int]], rng: Rng
) -> list[Indices]:
    """Split the test examples between clients as the training examples of their class are.

    ``training_counts`` is (clients, classes). Each test example goes to one client; those of a
    class that no client trains on go to none.
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
    """Give each client the test examples of its groups; those of other groups go to nobody."""
    return [np.flatnonzero(np.isin(groups, own)) for own in owned]
