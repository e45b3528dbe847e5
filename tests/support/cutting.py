"""Cutting small label arrays of four classes."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from fedcli.partitioning.pool import Cut, Pool
from fedcli.partitioning.schemes import Scheme, cut

CLASSES = ("ant", "bee", "cat", "dog")

label_arrays = st.lists(st.integers(0, 3), min_size=1, max_size=80).map(
    lambda values: np.array(values, np.int64)
)
seeds = st.integers(0, 2**40)


def made(labels: Any, scheme: Scheme, seed: int = 0, groups: Any = None) -> Cut:
    """Cut examples of four classes, from groups that are called g0, g1, …"""
    names = tuple(f"g{number}" for number in range(10))
    return cut(Pool(labels, CLASSES, groups, names), scheme, seed)


def disjoint_and_sorted(parts: list[np.ndarray]) -> None:
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    for part in parts:
        assert (np.diff(part) > 0).all()
        assert part.dtype == np.int64
