"""Sorting networks over whole rows: the same comparisons for every coordinate.

A comparator puts the smaller of two values on the lower wire and the larger on the higher wire.
With a row of values on each wire this is one ``np.minimum`` and one ``np.maximum``, which sorts
all columns at once without a branch. Only the requested ranks are computed.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from fedcli.formats.dtypes import Array


class Comparator(NamedTuple):
    """A comparison of wires ``low < high``, and which of its two results are used."""

    low: int
    high: int
    keeps_smaller: bool
    keeps_larger: bool


@cache
def selection_network(wires: int, first: int, last: int) -> tuple[Comparator, ...]:
    """Return the comparators that put the values of ranks ``first <= r < last`` on wire ``r``.

    The other wires end up with undefined values. This is the sorting network of
    ``_merge_exchange`` without the comparisons that those ranks do not depend on.
    """
    needed = set(range(first, last))
    network: list[Comparator] = []
    for low, high in reversed(_merge_exchange(wires)):
        if low in needed or high in needed:
            network.append(Comparator(low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(network))


def _merge_exchange(wires: int) -> list[tuple[int, int]]:
    # Batcher's odd-even merges, for any number of wires: Batcher 1968, "Sorting networks and their
    # applications"; Knuth, The Art of Computer Programming, volume 3, section 5.2.2, algorithm M.
    # The names are Knuth's.
    pairs: list[tuple[int, int]] = []
    top = 1 << max(wires - 1, 0).bit_length() >> 1
    p = top
    while p:
        q, r, d = top, 0, p
        while d:
            pairs += [(i, i + d) for i in range(wires - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


def select_ranks(stack: Array, first: int, last: int) -> list[Array]:
    """Return the rows of values of ranks ``first <= r < last`` in each column, smallest first.

    ``stack`` (n, B) must hold no NaN, and is overwritten; the returned rows are views of it or of
    one more row. A zero may have the sign of any zero in its column.
    """
    rows = list(stack)
    spare = np.empty_like(rows[0])
    for low, high, keeps_smaller, keeps_larger in selection_network(len(rows), first, last):
        one, other = rows[low], rows[high]
        if not keeps_larger:
            np.minimum(one, other, out=one)
        elif not keeps_smaller:
            np.maximum(one, other, out=other)
        else:
            np.minimum(one, other, out=spare)
            np.maximum(one, other, out=other)
            rows[low], spare = spare, one
    return rows[first:last]
