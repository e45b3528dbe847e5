"""Curves and bars in one line of text, drawn with block characters."""

import math
from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"


def spread(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` indices of ``count`` items, evenly spread, both ends included."""
    if count <= limit:
        return list(range(count))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


def curve(values: Sequence[float | None], low: float, high: float, *, width: int = 40) -> str:
    """Draw values on the scale from ``low`` to ``high``; None is a blank.

    If there are more values than ``width``, some are left out; none are averaged.
    """
    picked = [values[i] for i in spread(len(values), width)]
    return "".join(" " if value is None else _block(value - low, high - low) for value in picked)


def bars(counts: Sequence[int], *, width: int = 12) -> str:
    """Draw one bar per count, on the scale of the largest; 0 is a dot.

    If there are more counts than ``width``, neighbours are added up.
    """
    groups = min(len(counts), width)
    edges = [len(counts) * i // groups for i in range(groups + 1)] if groups else [0]
    sums = [sum(counts[a:b]) for a, b in pairwise(edges)]
    return "".join(_block(value, max(sums)) if value else "·" for value in sums)


def _block(value: float, scale: float) -> str:
    share = value / scale if 0 < scale < math.inf else 0.5
    return _BLOCKS[max(0, min(7, int(share * 8)))]
