"""Reducers that use the rank of each client's value, coordinate by coordinate.

Every function takes a block of all clients: a C-contiguous array (n, B) of finite values, one row
of B coordinates per client, which it may overwrite. Coordinates are independent, so the size of
the blocks changes no byte of the result. Neither does the order of the rows: values are added in
sorted order, and a zero is always +0.

A network (``networks``) sorts few clients as whole rows, at a cost per client that grows with
log² n. For many clients, pieces are transposed so that the values of a coordinate are adjacent:
``np.sort`` is vectorised only along contiguous memory.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from fedcli.formats.dtypes import Array, Values
from fedcli.strategies.networks import select_ranks

# Where np.sort catches up with the network, measured with AVX-512, which favours np.sort.
_MOST_WIRES = 32
# Threads need the interpreter lock between numpy operations, and waiting for it costs far more
# than a slower cache. So an operation should take at least 10 us: rows and pieces are larger than
# is best for a single thread.
_STACK_BYTES = 8 << 20
_MOST_BLOCK_BYTES = 256 << 10
_PAGE_BYTES = 4096
_MOST_COLUMNS = 1024
_LEAST_COLUMNS = 32
_SORTED_VALUES = 1 << 18


def block_bytes(clients: int) -> int:
    """Return how many bytes of each client to reduce at a time: a multiple of 4096.

    Up to 2048 clients take at most 8 MiB together.
    """
    pages = min(_STACK_BYTES // max(clients, 1), _MOST_BLOCK_BYTES) // _PAGE_BYTES
    return max(pages, 1) * _PAGE_BYTES


def median(stack: Array) -> Values:
    """Return the coordinate-wise median (Yin et al. 2018, definition 1), float64 (B,).

    For an even number of clients it is the float64 mean of the two middle values. ``stack``
    (n, B) has a float dtype and is overwritten.
    """
    low, high = (len(stack) - 1) // 2, len(stack) // 2
    result = np.empty(stack.shape[1])
    with np.errstate(over="ignore"):
        for part, values in _selected(stack, low, high + 1):
            middle_two = np.add(values[0], values[-1], out=result[part], dtype=np.float64)
            middle_two /= 2
            large = ~np.isfinite(middle_two)  # the sum of two float64 values overflowed
            if large.any():
                middle_two[large] = 0.5 * values[0][large] + 0.5 * values[-1][large]
    result += 0.0
    return result


def trimmed_mean(stack: Array, cut: int) -> Values:
    """Return the coordinate-wise trimmed mean (Yin et al. 2018, definition 2), float64 (B,).

    It drops the ``cut`` smallest and the ``cut`` largest values of each coordinate and averages
    the others in float64. ``stack`` (n, B) has a float dtype and is overwritten. Raises
    ``ValueError`` unless ``0 <= 2 * cut < n``.
    """
    first, last = cut, len(stack) - cut
    if not 0 <= first < last:
        raise ValueError(f"cannot cut {cut} clients twice from {len(stack)}")
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
    """Return the mean of the ``count`` values nearest to the median, float64 (B,).

    This is the second stage of Bulyan (El Mhamdi et al. 2018, section 4), with the median as in
    ``median``. If two values are equally near, the lower one is used. ``stack`` (n, B) has a float
    dtype. Raises ``ValueError`` unless ``1 <= count <= n``.
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

    Used for counters, so that the result is a value some client sent. ``stack`` (n, B) holds
    integers or booleans and is overwritten.
    """
    rank = (len(stack) - 1) // 2
    result: Array = np.empty_like(stack[0])
    for part, values in _selected(stack, rank, rank + 1):
        result[part] = values[0]
    return result


def _selected(
    stack: Array, first: int, last: int
) -> Iterator[tuple[slice, Sequence[Array] | Array]]:
    # The values of ranks first <= r < last, for one range of coordinates at a time.
    if len(stack) <= _MOST_WIRES:
        yield slice(None), select_ranks(stack, first, last)
    else:
        for part, columns in _sorted_columns(stack):
            yield part, columns.T[first:last]


def _sorted_columns(stack: Array) -> Iterator[tuple[slice, Array]]:
    # The sorted values of a range of coordinates, (coordinates, clients), valid until the next.
    clients, size = stack.shape
    width = min(max(_SORTED_VALUES // clients, _LEAST_COLUMNS), _MOST_COLUMNS, max(size, 1))
    # Rows a power of two apart compete for the same few cache lines, which makes transposing up
    # to seven times slower. So the rows of the tile are one line further apart.
    tile = np.empty((clients, width + 64 // stack.itemsize), stack.dtype)
    columns = np.empty((width, clients), stack.dtype)
    for start in range(0, size, width):
        part = slice(start, min(start + width, size))
        count = part.stop - start
        tile[:, :count] = stack[:, part]
        columns[:count] = tile[:, :count].T
        columns[:count].sort(axis=1)
        yield part, columns[:count]


# The values nearest to the median are adjacent in sorted order. Starting at the lowest ranks, their
# window moves up one rank for each value that is further below the median than the value ``count``
# ranks higher is above it: median - lower > upper - median.


def _nearest_of_rows(rows: list[Array], count: int) -> list[Array]:
    # The value that the window reaches replaces the value that it leaves. Exclusive-or does this
    # without a branch, ten times faster than a masked copy.
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
    # Values are sorted, so the first False is the number of values left behind. The last column
    # stays False for the case that all are.
    left = np.zeros((coordinates, clients - count + 1), np.bool_)
    np.less(values[:, : clients - count] + values[:, count:], twice[:, np.newaxis], left[:, :-1])
    start = np.arange(coordinates) * clients + left.argmin(axis=1)
    # Rows of a sliding window view of ``count`` values; numpy's sliding_window_view is slow.
    step = values.itemsize
    shape = (values.size - count + 1, count)
    nearest: Array = np.ndarray(shape, values.dtype, values, 0, (step, step))[start]
    return nearest


def _add_rows(rows: Sequence[Array], total: Values) -> None:
    total[:] = rows[0]
    term = np.empty_like(total)
    for row in rows[1:]:
        # Widening before adding is faster than letting numpy do both at once.
        term[:] = row
        total += term


def _row_sums(values: Array) -> Values:
    # Widen first: numpy would widen through a buffer whose pieces, and so the order of additions,
    # depend on the number of rows.
    sums: Values = values.astype(np.float64, order="C", copy=False).sum(axis=1)
    return sums
