"""The input and the result of a partitioner."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """The training examples of a data set as a partitioner sees them, without pictures.

    ``labels`` (N,) are indices into ``classes``; ``groups`` (N,) are indices into ``group_names``,
    None if unknown.
    """

    labels: Labels
    classes: tuple[str, ...]
    groups: Labels | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """The examples of each client, as disjoint sets of indices into the pool.

    ``repaired`` is the number of examples that were moved to other clients so that each has the
    minimum. ``groups`` are those of each client in a cut by groups.
    """

    clients: list[Indices]
    repaired: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
