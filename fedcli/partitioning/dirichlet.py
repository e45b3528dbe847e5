"""Label skew drawn from Dirichlet distributions."""

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedcli.options import Option
from fedcli.partitioning.counts import joined
from fedcli.partitioning.pool import Cut, Indices, Labels, Pool, Rng
from fedcli.partitioning.sizes import (
    TO_A_MILLION,
    LogDeviation,
    MinSize,
    Quantity,
    Sizes,
    client_sizes,
)

_DRAWS = 1000

Alpha = Annotated[
    float, Option("The smaller, the more skewed.", "A", above=0, at_most=TO_A_MILLION)
]


def dirichlet(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    alpha: Alpha = 0.5,
    min_size: MinSize = 1,
    balance: Annotated[
        bool,
        Option(
            "A client that has its even share of all examples gets no more from further classes.",
            flag=True,
        ),
    ] = False,
) -> Cut:
    """Divide each class between the clients in proportions drawn from a Dirichlet distribution.

    A small ``alpha`` gives each class to few clients. The proportions are redrawn until each
    client has ``min_size`` examples; after 1000 failed draws, random examples move from the
    largest clients to the others. With ``balance``, clients that have their even share get nothing
    of later classes. After Li et al., "Federated Learning on Non-IID Data Silos" (2022), section
    IV-A, whose code balances; and Hsu et al., "Measuring the Effects of Non-Identical Data
    Distribution" (2019).
    """
    members = _members(pool.labels, rng)
    sizes = np.array([len(indices) for indices in members])
    for _ in range(_DRAWS):
        shares = rng.dirichlet(np.full(clients, alpha), size=len(members))
        if balance:
            shares = _balanced(shares, sizes)
        bounds = np.rint(np.cumsum(shares, axis=1) * sizes[:, None]).astype(np.int64)
        bounds[:, -1] = sizes
        if np.diff(bounds, axis=1, prepend=0).sum(axis=0).min() >= min_size:
            return Cut(_dealt(members, bounds))
    return _filled_up(_dealt(members, bounds), min_size, rng)


def inner_dirichlet(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    alpha: Alpha = 0.5,
    quantity: Quantity = "even",
    sizes: Sizes = (),
    sigma: LogDeviation = 0.3,
    min_size: MinSize = 1,
) -> Cut:
    """Give each client its number of examples, with its own label mix.

    A client's mix is one draw from a Dirichlet distribution over the classes. Examples are
    assigned one at a time: to a random client that is not full, from a class drawn from its mix
    without the exhausted classes. After Acar et al., "Federated Learning Based on Dynamic
    Regularization" (2021), as in flwr-datasets' ``InnerDirichletPartitioner``; but a client whose
    whole mix is exhausted continues with the remaining classes, in proportion to their remaining
    examples.
    """
    wanted, repaired = client_sizes(
        len(pool.labels),
        clients,
        rng,
        quantity=quantity,
        sizes=sizes,
        sigma=sigma,
        min_size=min_size,
    )
    members = _members(pool.labels, rng)
    mixes = rng.dirichlet(np.full(len(members), alpha), size=clients)
    left = np.array([len(indices) for indices in members])
    counts = _drawn_one_by_one(mixes, wanted, left, rng)
    return Cut(_dealt(members, np.cumsum(counts, axis=0).T), repaired)


def _members(labels: Labels, rng: Rng) -> list[Indices]:
    """Return the examples of each class that has any, in random order."""
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _dealt(members: Sequence[Indices], bounds: Labels) -> list[Indices]:
    """Cut each class at the clients' bounds (classes, clients), and join the pieces by client."""
    pieces = [
        [indices[start:end] for start, end in pairwise([0, *ends])]
        for indices, ends in zip(members, bounds, strict=True)
    ]
    return [joined(own) for own in zip(*pieces, strict=True)]


def _balanced(shares: NDArray[np.float64], sizes: Labels) -> NDArray[np.float64]:
    """Give clients that have their even share of all examples nothing of later classes.

    If no other client has a share of a class, all keep theirs. ``shares`` is (classes, clients).
    """
    even = sizes.sum() / shares.shape[1]
    given = np.zeros(shares.shape[1])
    balanced = np.empty_like(shares)
    for label, size in enumerate(sizes):
        left = np.where(given < even, shares[label], 0.0)
        if not left.any():
            left = shares[label]
        balanced[label] = left / left.sum()
        given += np.rint(balanced[label] * size)
    return balanced


def _filled_up(parts: Sequence[Indices], least: int, rng: Rng) -> Cut:
    """Move random examples from the largest clients to those with fewer than ``least``."""
    held = [part.tolist() for part in parts]
    sizes = np.array([len(own) for own in held])
    moved = 0
    for client, own in enumerate(held):
        while sizes[client] < least:
            donor = int(np.argmax(sizes))
            own.append(held[donor].pop(int(rng.integers(sizes[donor]))))
            sizes[client] += 1
            sizes[donor] -= 1
            moved += 1
    return Cut([np.array(own, np.int64) for own in held], moved)


def _drawn_one_by_one(mixes: NDArray[np.float64], wanted: Labels, left: Labels, rng: Rng) -> Labels:
    """Draw the class of every example of every client; return counts (clients, classes)."""
    counts = np.zeros(mixes.shape, np.int64)
    missing, waiting = wanted.tolist(), list(range(len(wanted)))
    remaining = left.tolist()
    ladders = _ladders(mixes, remaining)
    for who, what in rng.random((int(wanted.sum()), 2)):
        client = waiting[int(who * len(waiting))]
        ladder = ladders[client]
        label = bisect(ladder, what * ladder[-1])
        counts[client, label] += 1
        missing[client] -= 1
        remaining[label] -= 1
        if missing[client] == 0:
            waiting.remove(client)
        if remaining[label] == 0:
            ladders = _ladders(mixes, remaining)
    return counts


def _ladders(mixes: NDArray[np.float64], remaining: Sequence[int]) -> list[list[float]]:
    """Return the running sums of each client's mix over the remaining classes."""
    supply = np.array(remaining)
    possible = np.where(supply > 0, mixes, 0.0)
    possible[~possible.any(axis=1)] = supply
    ladders: list[list[float]] = np.cumsum(possible, axis=1).tolist()
    return ladders
