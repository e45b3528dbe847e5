"""Streams of bits: ascending positions as gaps in a Rice code, unary numbers, and signs.

Every stream is padded with zero bits to whole bytes and has one spelling only. Rice (1979), "Some
practical universal noiseless coding techniques"; the parameter is the one for geometric gaps,
log2(ln 2 · mean).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import CHUNK, Bytes, Positions

Numbers = NDArray[np.int64]
_LN_2 = 0.6931
_BYTE = 8
# Eight numbers of so many bits lie in a word of 64 bits, the first of them highest.
_SHIFTS = [np.arange(_BYTE - 1, -1, -1) * width for width in range(_BYTE + 1)]


@cache
def _order() -> Numbers:
    return np.arange(CHUNK)


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
    ends = _ends(data, count)
    numbers = np.empty_like(ends)
    numbers[:1] = ends[:1]
    np.subtract(ends[1:], ends[:-1], out=numbers[1:])
    numbers[1:] -= 1
    return numbers


def _ends(data: Bytes, count: int) -> Numbers:
    """Return the places of the ones in a stream of ``count`` unary numbers."""
    ends = _bits(data).nonzero()[0]
    if len(ends) != count or len(data) != -(-int(ends[-1] + 1 if count else 0) // 8):
        raise ValueError("a stream of its encoding is damaged")
    return ends


def _bits(data: Bytes) -> NDArray[np.bool_]:
    return np.unpackbits(data).view(np.bool_)  # of which numpy finds the ones much faster


def fixed(numbers: Numbers, width: int) -> Bytes:
    """Write the lowest ``width`` bits of each number, the highest of them first."""
    shifts = np.arange(width - 1, -1, -1)
    return np.packbits(((numbers[:, None] >> shifts) & 1).astype(np.uint8))


def read_fixed(data: Bytes, count: int, width: int) -> Numbers:
    """Read ``count`` numbers of ``width`` bits. Raises ``ValueError`` if padding is not zero."""
    _check_padding(data, count * width)
    if not width:
        return np.zeros(count, np.int64)
    if width <= _BYTE:
        return _narrow(data, count, width)
    numbers = np.zeros(count, np.int64)
    for column in np.unpackbits(data)[: count * width].reshape(count, width).T:
        np.left_shift(numbers, 1, out=numbers)
        np.bitwise_or(numbers, column, out=numbers)
    return numbers


def _narrow(data: Bytes, count: int, width: int) -> Numbers:
    """Read numbers of at most eight bits, eight at a time: they fill ``width`` bytes."""
    groups = -(-count // _BYTE)
    padded = np.zeros(groups * width, np.uint8)
    padded[: len(data)] = data
    words = np.zeros((groups, _BYTE), np.uint8)
    words[:, :width] = padded.reshape(groups, width)[:, ::-1]
    numbers = words.view("<i8") >> _SHIFTS[width]
    numbers &= (1 << width) - 1
    found: Numbers = numbers.reshape(-1)[:count]
    return found


def read_signs(data: Bytes, count: int) -> NDArray[np.bool_]:
    """Read ``count`` bits. Raises ``ValueError`` if padding is not zero."""
    _check_padding(data, count)
    return _bits(data)[:count]


def _check_padding(data: Bytes, used: int) -> None:
    spare = 8 * len(data) - used
    if spare and int(data[-1]) & ((1 << spare) - 1):
        raise ValueError("the padding of its encoding is not zero")


def gaps_of(places: Positions) -> Gaps:
    """Code ascending places within a chunk by the gaps between them."""
    gaps = np.diff(places, prepend=-1) - 1
    mean = float(gaps.mean()) if len(gaps) else 0.0
    parameter = max(0, round(math.log2(_LN_2 * mean))) if mean else 0
    return Gaps(parameter, unary(gaps >> parameter), fixed(gaps, parameter))


def read_gaps(gaps: Gaps, count: int, size: int) -> Positions:
    """Return ``count`` places below ``size``. Raises ``ValueError`` for others."""
    places = _ends(gaps.unary, count)
    low = read_fixed(gaps.low, count, gaps.parameter)
    if gaps.parameter:  # in place: touching fresh memory is slow
        order = _order()[:count]
        places -= order  # the sums of the quotients so far
        places <<= gaps.parameter
        places += order
        places += np.cumsum(low, out=low)
    if count and places[-1] >= size:
        raise ValueError("a position of its encoding is outside its chunk")
    return places
