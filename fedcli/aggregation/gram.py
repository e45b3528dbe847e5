"""Norms and inner products of updates, which some rules need before they decide.

They are computed on the differences Δ_i = y_i - x_i to the base models, so that small differences
of large models lose no precision, and on parameters only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import BlockFile
from fedcli.aggregation.blocks import (
    Block,
    BlockSource,
    Reader,
    blocks_of,
    reduce_blocks,
    threads_for,
)
from fedcli.aggregation.matrix_threads import one_matrix_thread
from fedcli.aggregation.nonfinite import nonfinite_values, overflow_error
from fedcli.aggregation.panels import Panels
from fedcli.aggregation.updates import Update
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Array, Values, as_float
from fedcli.progress import Progress

# Sums of products are added piece by piece. The size of a piece affects rounding, so it depends
# on nothing but the number of updates.
FEW = 1024  # updates, of which the products of a block are 8 MB
_PIECE = 4096  # values of each update: 100 of them in float64 are 3 MB
_STACK_BYTES = 8 * 1024 * 1024
_ROW_BYTES = (16 * 1024, 256 * 1024)

WatchBlock = Callable[[Block, Array, Sequence[Values]], None]


@contextmanager
def open_base_models(bases: Iterable[Base]) -> Iterator[dict[int, BlockFile]]:
    """Open each base model once, by the number of the round that starts from it."""
    files: dict[int, BlockFile] = {}
    try:
        for base in bases:
            if base.round.number not in files:
                files[base.round.number] = BlockFile(base.open(), base.layout)
        yield files
    finally:
        for file in files.values():
            file.close()


def squared_norms(
    base: Base, updates: Sequence[Update], progress: Progress, *, strict: bool = True
) -> Values:
    """Return |Δ_i|² (n,), float64, and hash the updates.

    Raises ``UpdateError`` for values that are not finite; if it is not ``strict``, such a |Δ_i|² is
    infinite.
    """

    def reduce(block: Block, reader: Reader) -> Values:
        found = np.zeros(len(updates))
        if block.counters:
            return found
        base_values = read_base_values(block, reader, bases)
        for index, update in enumerate(updates):
            values = as_float(reader.read(update.values))
            difference = reader.scratch.array("difference", block.size, np.float64)
            np.subtract(values, base_values[update.base.round.number], out=difference)
            for place in block.buffers:
                difference[place] = 0 if np.isfinite(difference[place]).all() else np.nan
            np.multiply(difference, difference, out=difference)
            found[index] = np.add.reduce(difference)
            if not np.isfinite(found[index]):
                if strict:
                    raise overflow_error(update, block, difference)
                found[index] = np.inf
        return found

    with open_base_models(u.base for u in updates) as bases:
        sources: list[BlockSource] = [*bases.values(), *(u.values for u in updates)]
        blocks = blocks_of(base.layout, base.roles)
        return _sum_blocks(sources, blocks, reduce, np.zeros(len(updates)), progress)


def gram_matrix(
    base: Base,
    updates: Sequence[Update],
    center: BlockFile | None,
    progress: Progress,
    watch: WatchBlock | None = None,
) -> Values:
    """Return Δ_i · Δ_j (n, n), float64, with the center last, and hash the updates.

    ``watch``, which is for few updates, receives each block of floats with the values of all
    updates (n, size) and those of their base models; several threads call it. The result does not
    depend on the number of threads. Raises ``UpdateError`` for values that are not finite.
    """
    if len(updates) > FEW:
        return _gram_of_many(base, updates, center, progress)
    sources = [*(update.values for update in updates), *([] if center is None else [center])]
    count = len(sources)
    low, high = _ROW_BYTES
    size = min(high, max(low, _STACK_BYTES // count // low * low))
    with open_base_models(u.base for u in updates) as bases, one_matrix_thread():

        def reduce(block: Block, reader: Reader) -> Values:
            if block.counters:
                return np.zeros((count, count))
            base_values = read_base_values(block, reader, bases)
            dtype = np.float64 if block.dtype == np.float64 else np.float32
            stack = reader.scratch.array("stack", (count, block.size), dtype)
            for row, source in zip(stack, sources, strict=True):
                reader.read_into(source, row)
            own = [base_values[update.base.round.number] for update in updates]
            if watch is not None:
                watch(block, stack[: len(own)], own)
            found = _multiply(block, stack, own, reader)
            # Sums of squares show values that are not finite, except in buffers.
            if not (np.isfinite(found).all() and _finite_buffers(block, stack)):
                raise nonfinite_values(updates, block) or _farthest_error(
                    updates, block, stack, own
                )
            return found

        blocks = blocks_of(base.layout, base.roles, size)
        total = np.zeros((count, count))
        return _sum_blocks(
            [*bases.values(), *sources], blocks, reduce, total, progress, threads_for(size * count)
        )


def _gram_of_many(
    base: Base, updates: Sequence[Update], center: BlockFile | None, progress: Progress
) -> Values:
    """Return the matrix with no other of its size in memory."""
    with open_base_models(u.base for u in updates) as bases:
        panels = Panels(base, updates, bases, center)
        found = np.empty((len(panels), len(panels)))
        progress.start("measuring the updates", len(panels.panels))
        for first, products in panels.later_products():
            found[first : first + len(products), first:] = products
            found[first:, first : first + len(products)] = products.T
            progress.advance()
    return found


def _multiply(block: Block, stack: Array, bases: Sequence[Values], reader: Reader) -> Values:
    """Return the inner products of rows minus bases; rows beyond the bases are differences."""
    total = np.zeros((len(stack), len(stack)))
    same = all(base is bases[0] for base in bases)
    for start in range(0, block.size, _PIECE):
        place = slice(start, min(start + _PIECE, block.size))
        piece = reader.scratch.array("piece", (len(stack), place.stop - start), np.float64)
        np.copyto(piece, stack[:, place])
        if same:
            piece[: len(bases)] -= bases[0][place]
        else:
            for row, base in zip(piece, bases, strict=False):
                row -= base[place]
        for buffers in block.buffers:
            piece[:, max(0, buffers.start - start) : max(0, buffers.stop - start)] = 0
        total += piece @ piece.T
    return total


def _farthest_error(
    updates: Sequence[Update], block: Block, stack: Array, bases: Sequence[Values]
) -> UpdateError:
    """Return the error for the row farthest from its base, whose squares are not finite."""
    squares = [np.square(row - base) for row, base in zip(stack, bases, strict=False)]
    farthest = int(np.argmax([values.sum() for values in squares]))
    return overflow_error(updates[farthest], block, squares[farthest])


def _finite_buffers(block: Block, stack: Array) -> bool:
    return all(np.isfinite(stack[:, place]).all() for place in block.buffers)


def read_base_values(
    block: Block, reader: Reader, bases: Mapping[int, BlockFile]
) -> dict[int, Values]:
    """Read a block of every base model in float64, by round number."""
    base_values = {}
    for number, base in bases.items():
        values = as_float(reader.read(base))
        base_values[number] = reader.scratch.array(f"base {number}", block.size, np.float64)
        np.copyto(base_values[number], values, casting="unsafe")
    return base_values


def _sum_blocks(
    sources: Sequence[BlockSource],
    blocks: Sequence[Block],
    reduce: Callable[[Block, Reader], Values],
    total: Values,
    progress: Progress,
    threads: int | None = None,
) -> Values:
    progress.start("measuring the updates", len(blocks))
    with closing(reduce_blocks(sources, blocks, reduce, threads)) as reduced:
        for _, part in reduced:
            total += part
            progress.advance()
    return total
