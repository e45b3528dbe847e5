"""What a partitioner is given, and what it gives back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """The training examples of one data set, as a partitioner sees them: without pictures.

    ``labels`` (N) are numbers into ``classes``; ``groups`` (N) are numbers into ``group_names``,
    None where the data does not say where its examples come from.
    """

    labels: Labels
    classes: tuple[str, ...]
    groups: Labels | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """The examples of each client, as indices into the pool; no example goes to two clients.

    ``repaired`` counts the examples that went to another client than was drawn, so that each
    has the least number. ``groups`` are those of each client, of a cut by groups.
    """

    clients: list[Indices]
    repaired: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
