"""Norms and inner products of updates: what some rules have to know before they decide.

They are of the differences Δ_i = y_i - x_i to the base models, so that nothing is lost where
large models differ little, and of parameters only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

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
from fedcli.aggregation.nonfinite import bad_values, too_far
from fedcli.aggregation.updates import Update
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Array, Values, as_float
from fedcli.progress import Progress

# Sums of products are added up piece by piece; the size of a piece decides how they are rounded,
# so it depends on nothing but the number of updates.
_PIECE = 4096  # values of each update: 100 of them in float64 are 3 MB
_STACK_BYTES = 8 * 1024 * 1024
_ROW_BYTES = (16 * 1024, 256 * 1024)


@contextmanager
def open_base_models(bases: Iterable[Base]) -> Iterator[dict[int, BlockFile]]:
    """Open base models, each once, by the number of the round that starts from it."""
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
    base: Base,
    updates: Sequence[Update],
    progress: Progress,
) -> Values:
    """Return |Δ_i|² (n,), float64; the updates are hashed on the way.

    Raises ``UpdateError`` for values that are not finite.
    """

    def reduce(block: Block, reader: Reader) -> Values:
        found = np.zeros(len(updates))
        if block.counters:
            return found
        taken = read_base_values(block, reader, bases)
        for index, update in enumerate(updates):
            values = as_float(reader.read(update.values))
            difference = reader.scratch.array("difference", block.size, np.float64)
            np.subtract(values, taken[update.base.round.number], out=difference)
            for place in block.buffers:
                difference[place] = 0 if np.isfinite(difference[place]).all() else np.nan
            np.multiply(difference, difference, out=difference)
            found[index] = np.add.reduce(difference)
            if not np.isfinite(found[index]):
                raise too_far(update, block, difference)
        return found

    with open_base_models(u.base for u in updates) as bases:
        sources: list[BlockSource] = [*bases.values(), *(u.values for u in updates)]
        blocks = blocks_of(base.layout, base.roles)
        return _added_up(sources, blocks, reduce, np.zeros(len(updates)), progress)


def gram_matrix(
    base: Base,
    updates: Sequence[Update],
    center: BlockFile | None,
    progress: Progress,
) -> Values:
    """Return Δ_i · Δ_j (n, n), float64, the center as the last of them; the updates are hashed.

    The result does not depend on the number of threads. Raises ``UpdateError`` for values that
    are not finite.
    """
    sources = [*(update.values for update in updates), *([] if center is None else [center])]
    count = len(sources)
    low, high = _ROW_BYTES
    size = min(high, max(low, _STACK_BYTES // count // low * low))
    with (
        open_base_models(u.base for u in updates) as bases,
        threadpool_limits(limits=1, user_api="blas"),
    ):

        def reduce(block: Block, reader: Reader) -> Values:
            if block.counters:
                return np.zeros((count, count))
            taken = read_base_values(block, reader, bases)
            dtype = np.float64 if block.dtype == np.float64 else np.float32
            stack = reader.scratch.array("stack", (count, block.size), dtype)
            for row, source in zip(stack, sources, strict=True):
                reader.read_into(source, row)
            own = [taken[update.base.round.number] for update in updates]
            found = _multiply(block, stack, own, reader)
            # A sum of squares shows what is not finite; only of buffers there is none.
            if not (np.isfinite(found).all() and _finite_buffers(block, stack)):
                raise bad_values(updates, block) or _too_far(updates, block, stack, own)
            return found

        blocks = blocks_of(base.layout, base.roles, size)
        total = np.zeros((count, count))
        return _added_up(
            [*bases.values(), *sources], blocks, reduce, total, progress, threads_for(size * count)
        )


def _multiply(block: Block, stack: Array, bases: Sequence[Values], reader: Reader) -> Values:
    """Return the inner products of the rows less their bases; a row without one is a difference."""
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


def _too_far(
    updates: Sequence[Update], block: Block, stack: Array, bases: Sequence[Values]
) -> UpdateError:
    """Tell which of the rows is so far from its base that its square is not finite."""
    squares = [np.square(row - base) for row, base in zip(stack, bases, strict=False)]
    farthest = int(np.argmax([values.sum() for values in squares]))
    return too_far(updates[farthest], block, squares[farthest])


def _finite_buffers(block: Block, stack: Array) -> bool:
    return all(np.isfinite(stack[:, place]).all() for place in block.buffers)


def read_base_values(
    block: Block, reader: Reader, bases: Mapping[int, BlockFile]
) -> dict[int, Values]:
    """Read a block of every base model, in float64, by the number of its round."""
    taken = {}
    for number, base in bases.items():
        values = as_float(reader.read(base))
        taken[number] = reader.scratch.array(f"base {number}", block.size, np.float64)
        np.copyto(taken[number], values, casting="unsafe")
    return taken


def _added_up(
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
