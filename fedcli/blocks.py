"""Read many files of one layout side by side, block by block, in one pass.

Each block of each file is read, hashed and added up by one thread while it is in that
processor's cache: the digests cost no second read, and the memory needed grows with neither the
files nor their tensors.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, Protocol

import numpy as np

from fedcli.checkpoint import Layout
from fedcli.dtypes import Array, is_float

# The sums of a block, in float64, are to stay in the L2 cache; measured from 128 KiB to 1 MiB.
BLOCK_BYTES = 256 * 1024
# Hashing bounds the speed of one thread. A disk rarely feeds more than a few.
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a layout that holds values of one dtype, all counters or all floats.

    It may span many small tensors, or a part of a large one. ``start`` and ``stop`` count bytes
    as in ``TensorInfo``.
    """

    dtype: np.dtype[Any]
    counters: bool
    start: int
    stop: int


def blocks_of(layout: Layout, size: int = BLOCK_BYTES) -> list[Block]:
    """Cut a layout into blocks of at most ``size`` bytes, in its order."""
    stretches: list[Block] = []
    for info in layout.values():
        block = Block(info.dtype, not is_float(info.dtype), info.start, info.stop)
        if stretches and stretches[-1].dtype == block.dtype:
            block = Block(block.dtype, block.counters, stretches.pop().start, block.stop)
        stretches.append(block)
    return [
        Block(stretch.dtype, stretch.counters, start, min(start + size, stretch.stop))
        for stretch in stretches
        for start in range(stretch.start, stretch.stop, size)
    ]


class BlockSource(Protocol):
    """What the blocks are read from; it is never asked by two threads at once."""

    def read(self, block: Block, buffer: memoryview) -> Array:
        """Read a block into ``buffer`` and return its values. The blocks come in order."""


def reduce_blocks(
    sources: Sequence[BlockSource],
    blocks: Iterable[Block],
    reduce: Callable[[Block, Iterator[Array]], Array],
) -> Generator[tuple[Block, Array], None, None]:
    """Yield each block with what ``reduce`` makes of it, in the order of the blocks.

    ``reduce`` is given the values of every source in turn; an array is valid until the next one
    is asked for, and all have to be asked for. It is called by several threads at once, each of
    which has a block of its own. Close the generator to stop them.
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    before = Semaphore(len(sources))
    pending: deque[tuple[Block, Future[Array]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            after = Semaphore(0)
            future = pool.submit(_reduce, reduce, block, sources, before, after)
            pending.append((block, future))
            before = after
            if len(pending) > threads:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()


def _reduce(
    reduce: Callable[[Block, Iterator[Array]], Array],
    block: Block,
    sources: Sequence[BlockSource],
    before: Semaphore,
    after: Semaphore,
) -> Array:
    try:
        return reduce(block, _values(block, sources, before, after))
    finally:
        # After an error nobody is to wait for this thread: all that follows is thrown away.
        after.release(len(sources))


def _values(
    block: Block, sources: Sequence[BlockSource], before: Semaphore, after: Semaphore
) -> Iterator[Array]:
    # A file is hashed in its order: a thread reads its block of it as soon as the thread with the
    # block before has read that. So the threads follow each other through the sources.
    buffer = memoryview(bytearray(block.stop - block.start))
    for source in sources:
        before.acquire()
        values = source.read(block, buffer)
        after.release()
        yield values
