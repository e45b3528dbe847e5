"""Streams of bits: ascending positions as gaps in a Rice code, unary numbers, and signs.

Every stream is padded with zero bits to whole bytes and has one spelling only. Rice (1979), "Some
practical universal noiseless coding techniques"; the parameter is the one for geometric gaps,
log2(ln 2 · mean).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import Bytes, Positions

Numbers = NDArray[np.int64]
_LN_2 = 0.6931


@dataclass(frozen=True)
class Gaps:
    """Coded positions: the Rice parameter, the unary stream and the stream of low bits."""

    parameter: int
    unary: Bytes
    low: Bytes


def unary(numbers: Numbers) -> Bytes:
    """Write each number as that many zeros and a one."""
    ends = np.cumsum(numbers + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    bits[ends] = 1
    return np.packbits(bits)


def read_unary(data: Bytes, count: int) -> Numbers:
    """Read ``count`` numbers that fill ``data``. Raises ``ValueError`` for anything else."""
    ends = np.flatnonzero(np.unpackbits(data))
    if len(ends) != count or len(data) != -(-int(ends[-1] + 1 if count else 0) // 8):
        raise ValueError("a stream of its encoding is damaged")
    return np.diff(ends, prepend=-1) - 1


def fixed(numbers: Numbers, width: int) -> Bytes:
    """Write the lowest ``width`` bits of each number, the highest of them first."""
    shifts = np.arange(width - 1, -1, -1)
    return np.packbits(((numbers[:, None] >> shifts) & 1).astype(np.uint8))


def read_fixed(data: Bytes, count: int, width: int) -> Numbers:
    """Read ``count`` numbers of ``width`` bits. Raises ``ValueError`` if padding is not zero."""
    bits = np.unpackbits(data)
    if bits[count * width :].any():
        raise ValueError("the padding of its encoding is not zero")
    weights = np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64)
    return bits[: count * width].reshape(count, width).astype(np.int64) @ weights


def gaps_of(places: Positions) -> Gaps:
    """Code ascending places within a chunk by the gaps between them."""
    gaps = np.diff(places, prepend=-1) - 1
    mean = float(gaps.mean()) if len(gaps) else 0.0
    parameter = max(0, round(math.log2(_LN_2 * mean))) if mean else 0
    return Gaps(parameter, unary(gaps >> parameter), fixed(gaps, parameter))


def read_gaps(gaps: Gaps, count: int, size: int) -> Positions:
    """Return ``count`` places below ``size``. Raises ``ValueError`` for others."""
    high = read_unary(gaps.unary, count) << gaps.parameter
    places = np.cumsum(high + read_fixed(gaps.low, count, gaps.parameter) + 1) - 1
    if count and places[-1] >= size:
        raise ValueError("a position of its encoding is outside its chunk")
    return places
