"""Partition by the groups that examples really come from."""

import numpy as np

from fedcli.errors import UsageError
from fedcli.partitioning.pool import Cut, Labels, Pool, Rng


def natural(pool: Pool, clients: int, rng: Rng) -> Cut:
    """Make each group, such as a hospital, a writer or a device, a client.

    With fewer clients than groups, each group, from the largest on, goes to the client with the
    fewest examples. Nothing is random. After Caldas et al., "LEAF: A Benchmark for Federated
    Settings" (2018).

    Raises ``UsageError`` if the data has no groups, or fewer groups than clients.
    """
    present, groups = groups_of(pool)
    if clients > len(present):
        raise UsageError(
            f"--clients {clients}: the training examples come from only {len(present)} groups"
        )
    sizes = np.bincount(groups)[present]
    if clients == len(present):
        owned = [[int(group)] for group in present]
    else:
        owned = [[] for _ in range(clients)]
        held = np.zeros(clients, np.int64)
        for position in np.argsort(-sizes, kind="stable"):
            client = int(np.argmin(held))
            owned[client].append(int(present[position]))
            held[client] += sizes[position]
    parts = [np.flatnonzero(np.isin(groups, own)) for own in owned]
    return Cut(parts, groups=tuple(tuple(sorted(own)) for own in owned))


def groups_of(pool: Pool) -> tuple[Labels, Labels]:
    """Return the groups that have examples, and the group of each example.

    Raises ``UsageError`` if the data has no groups.
    """
    if pool.groups is None:
        raise UsageError(
            "--scheme natural: the data set does not say where its examples come from",
            hint="use --group for an imagefolder, or an array 'group' in an npz file",
        )
    return np.unique(pool.groups), pool.groups
