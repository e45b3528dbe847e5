"""Reducers that look at the rank of each client's value, one coordinate at a time.

Every function is given a block of all clients at once: a C-contiguous array (n, B), one row of B
coordinates per client, all of them finite. It may overwrite that array. No coordinate depends on
another, so the size of the blocks changes no byte of the result. Neither does the order of the
rows: values are added up in sorted order, and a zero always comes out as +0.

Few clients are sorted by a network of whole rows (``networks``), whose cost per client grows with
the square of the logarithm of n. Many are transposed piece by piece, so that the values of one
coordinate lie side by side, for ``np.sort``, which is vectorised along contiguous memory only.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from fedcli.formats.dtypes import Array, Values
from fedcli.strategies.networks import select_ranks

# Where np.sort catches up with the network, measured with AVX-512, which favours np.sort.
_MOST_WIRES = 32
# All threads share one interpreter lock, which each needs for a moment between any two operations
# of numpy. Where they wait for it, they lose far more than to a slower cache, so an operation is
# to take 10 us and more: hence rows and pieces that are larger than is best for one thread.
_STACK_BYTES = 8 << 20
_MOST_BLOCK_BYTES = 256 << 10
_PAGE_BYTES = 4096
_MOST_COLUMNS = 1024
_LEAST_COLUMNS = 32
_SORTED_VALUES = 1 << 18


def block_bytes(clients: int) -> int:
    """Return how many bytes of each client to reduce at a time: a multiple of 4096.

    All clients together stay within 8 MiB, up to 2048 of them.
    """
    pages = min(_STACK_BYTES // max(clients, 1), _MOST_BLOCK_BYTES) // _PAGE_BYTES
    return max(pages, 1) * _PAGE_BYTES


def median(stack: Array) -> Values:
    """Return the coordinate-wise median (Yin et al. 2018, definition 1), float64 (B,).

    For an even number of clients it is the mean, in float64, of the two values in the middle.
    ``stack`` is (n, B) of a float dtype, and is overwritten.
    """
    low, high = (len(stack) - 1) // 2, len(stack) // 2
    result = np.empty(stack.shape[1])
    with np.errstate(over="ignore"):
        for part, values in _selected(stack, low, high + 1):
            middle_two = np.add(values[0], values[-1], out=result[part], dtype=np.float64)
            middle_two /= 2
            large = ~np.isfinite(middle_two)  # two float64 values that have no sum
            if large.any():
                middle_two[large] = 0.5 * values[0][large] + 0.5 * values[-1][large]
    result += 0.0
    return result


def trimmed_mean(stack: Array, cut: int) -> Values:
    """Return the coordinate-wise trimmed mean (Yin et al. 2018, definition 2), float64 (B,).

    Of each coordinate the ``cut`` smallest and the ``cut`` largest values are left out; the mean
    of the rest is taken in float64. ``stack`` is (n, B) of a float dtype, and is overwritten.
    Raises ``ValueError`` unless ``0 <= 2 * cut < n``.
    """
    first, last = cut, len(stack) - cut
    if not 0 <= first < last:
        raise ValueError(f"cannot cut twice {cut} of {len(stack)} clients")
    total = np.empty(stack.shape[1])
    with np.errstate(over="ignore"):
        if len(stack) <= _MOST_WIRES:
            _add_rows(select_ranks(stack, first, last), total)
        else:
            for part, columns in _sorted_columns(stack):
                total[part] = _row_sums(columns[:, first:last])
    total /= last - first
    total += 0.0
    return total


def mean_around_median(stack: Array, count: int) -> Values:
    """Return the mean of the ``count`` values that are nearest to the median, float64 (B,).

    It is the second stage of Bulyan (El Mhamdi et al. 2018, section 4), where the median of an
    even number of clients is the one of ``median``. Of a value below and one above the median at
    the same distance, the one below is taken. ``stack`` is (n, B) of a float dtype. Raises
    ``ValueError`` unless ``1 <= count <= n``.
    """
    clients = len(stack)
    if not 1 <= count <= clients:
        raise ValueError(f"cannot take {count} of {clients} clients")
    total = np.empty(stack.shape[1])
    with np.errstate(over="ignore"):
        if clients <= _MOST_WIRES:
            _add_rows(_nearest_of_rows(select_ranks(stack, 0, clients), count), total)
        else:
            for part, columns in _sorted_columns(stack):
                total[part] = _row_sums(_nearest_of_columns(columns, count))
    total /= count
    total += 0.0
    return total


def middle(stack: Array) -> Array:
    """Return the lower median, rank ``(n - 1) // 2`` in sorted order, in the dtype of ``stack``.

    This is how counters are combined: the result is a value that some client has sent. ``stack``
    is (n, B) of integers or booleans, and is overwritten.
    """
    rank = (len(stack) - 1) // 2
    result: Array = np.empty_like(stack[0])
    for part, values in _selected(stack, rank, rank + 1):
        result[part] = values[0]
    return result


def _selected(
    stack: Array, first: int, last: int
) -> Iterator[tuple[slice, Sequence[Array] | Array]]:
    # The values of each rank first <= r < last, for one part of the coordinates after another.
    if len(stack) <= _MOST_WIRES:
        yield slice(None), select_ranks(stack, first, last)
    else:
        for part, columns in _sorted_columns(stack):
            yield part, columns.T[first:last]


def _sorted_columns(stack: Array) -> Iterator[tuple[slice, Array]]:
    # The sorted values of some coordinates, (coordinates, clients), valid until the next are
    # asked for.
    clients, size = stack.shape
    width = min(max(_SORTED_VALUES // clients, _LEAST_COLUMNS), _MOST_COLUMNS)
    # Rows that lie a power of two apart compete for the same few lines of a cache, which makes
    # transposing up to seven times slower. The rows of the tile are one line further apart.
    tile = np.empty((clients, width + 64 // stack.itemsize), stack.dtype)
    columns = np.empty((width, clients), stack.dtype)
    for start in range(0, size, width):
        part = slice(start, min(start + width, size))
        count = part.stop - start
        tile[:, :count] = stack[:, part]
        columns[:count] = tile[:, :count].T
        columns[:count].sort(axis=1)
        yield part, columns[:count]


# The values nearest to the median are neighbours in sorted order. From the lowest ranks, the window
# that holds them has moved up by one rank for each value that is further below the median than the
# value ``count`` ranks up is above it: median - lower > upper - median.


def _nearest_of_rows(rows: list[Array], count: int) -> list[Array]:
    # The row of a value that the window has left takes the value that it has reached. Exclusive-or
    # does this without a branch, ten times faster than a copy with a mask.
    bits = [row.view(f"i{row.itemsize}") for row in rows]
    twice = np.add(rows[(len(rows) - 1) // 2], rows[len(rows) // 2], dtype=np.float64)
    both = np.empty_like(twice)
    for rank in range(len(rows) - count):
        both[:] = rows[rank]
        both += rows[rank + count]
        slot = rank % count
        bits[slot] ^= (bits[rank] ^ bits[rank + count]) * (both < twice)
    return rows[:count]


def _nearest_of_columns(columns: Array, count: int) -> Array:
    coordinates, clients = columns.shape
    values = columns.astype(np.float64)
    twice = values[:, (clients - 1) // 2] + values[:, clients // 2]
    # Sorted as they are, the first that is not left behind tells how many are; one more column,
    # of which nothing is, stands for all.
    left = np.zeros((coordinates, clients - count + 1), np.bool_)
    np.less(values[:, : clients - count] + values[:, count:], twice[:, np.newaxis], left[:, :-1])
    start = np.arange(coordinates) * clients + left.argmin(axis=1)
    # Rows of a view of every run of ``count`` values. numpy's own function for such a view is slow.
    step = values.itemsize
    shape = (values.size - count + 1, count)
    nearest: Array = np.ndarray(shape, values.dtype, values, 0, (step, step))[start]
    return nearest


def _add_rows(rows: Sequence[Array], total: Values) -> None:
    total[:] = rows[0]
    term = np.empty_like(total)
    for row in rows[1:]:
        # Widened before it is added; faster than to let numpy do both at once.
        term[:] = row
        total += term


def _row_sums(values: Array) -> Values:
    # Widened first: numpy would widen it in pieces of a buffer, and where a piece ends, and with
    # it the order of the additions, would depend on the number of rows.
    sums: Values = values.astype(np.float64, order="C", copy=False).sum(axis=1)
    return sums
