"""Read many files of one layout side by side, block by block, in one pass.

Each block of each file is read, hashed and worked on by one thread while it is in that
processor's cache: the digests cost no second read, and the memory needed grows with neither the
files nor their tensors.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from fedcli.cores import available_cores
from fedcli.formats.dtypes import Array, as_float, is_float
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout

# The sums of a block, in float64, are to stay in the L2 cache; measured from 128 KiB to 1 MiB.
BLOCK_BYTES = 256 * 1024
# Each thread has memory of its own, and a disk rarely feeds more.
_MOST_THREADS = 8
_MOST_STACKED_BYTES = 32 * 1024 * 1024  # of all threads together

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Part:
    """What a block holds of one tensor: elements ``place`` of the block, from its ``first`` on."""

    name: str
    role: Role
    place: slice
    first: int


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a layout that holds values of one dtype, all counters or all floats.

    It may span many small tensors, or a part of a large one. ``start`` and ``stop`` count bytes
    as in ``TensorInfo``, ``size`` counts values.
    """

    dtype: np.dtype[Any]
    counters: bool
    start: int
    stop: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """The number of values."""
        return (self.stop - self.start) // self.dtype.itemsize

    @property
    def buffers(self) -> list[slice]:
        """Where the values are that are not parameters."""
        return [part.place for part in self.parts if part.role != Role.PARAMETER]

    @property
    def controls(self) -> list[slice]:
        """Where the values are that belong to no model."""
        return [part.place for part in self.parts if part.role == Role.CONTROL]


def blocks_of(layout: Layout, roles: Mapping[str, Role], size: int = BLOCK_BYTES) -> list[Block]:
    """Cut a layout into blocks of at most ``size`` bytes, in its order."""
    stretches: list[list[str]] = []
    for name, info in layout.items():
        if stretches and layout[stretches[-1][0]].dtype == info.dtype:
            stretches[-1].append(name)
        else:
            stretches.append([name])
    return [block for names in stretches for block in _cut(layout, roles, names, size)]


def _cut(
    layout: Layout, roles: Mapping[str, Role], names: Sequence[str], size: int
) -> Iterable[Block]:
    dtype = layout[names[0]].dtype
    end, index = layout[names[-1]].stop, 0
    for start in range(layout[names[0]].start, end, size):
        stop, parts = min(start + size, end), []
        while index < len(names) and layout[names[index]].start < stop:
            info = layout[names[index]]
            first, last = max(info.start, start), min(info.stop, stop)
            if first < last:
                place = slice((first - start) // dtype.itemsize, (last - start) // dtype.itemsize)
                role = roles.get(names[index], Role.PARAMETER)
                parts.append(
                    Part(names[index], role, place, (first - info.start) // dtype.itemsize)
                )
            if info.stop > stop:
                break
            index += 1
        yield Block(dtype, not is_float(dtype), start, stop, tuple(parts))


class Scratch(threading.local):
    """Memory of one thread that is used again and again: fresh memory is slow to touch."""

    def __init__(self) -> None:
        self._memory: dict[str, bytearray] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return an array that keeps its values until the same name is asked for again."""
        count = shape if isinstance(shape, int) else math.prod(shape)
        size = max(1, count * np.dtype(dtype).itemsize)
        if len(self._memory.get(name, b"")) < size:
            self._memory[name] = bytearray(size)
        return np.frombuffer(self._memory[name], dtype, count).reshape(shape)


class BlockSource(Protocol):
    """What the blocks are read from."""

    @property
    def in_order(self) -> bool:
        """Whether its blocks have to be read one after another, in their order."""

    def dtype(self, block: Block) -> np.dtype[Any]:
        """Return the dtype of its values in a block."""

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with its values of a block. The blocks come in order."""


class Reader:
    """The values that the sources have in one block, to be taken in turn.

    A file is hashed in its order: a thread reads its block of it as soon as the thread with the
    block before has read that. So the threads follow each other through the sources, which costs
    time: where no source asks for it, none waits.
    """

    def __init__(
        self,
        block: Block,
        sources: Sequence[BlockSource],
        scratch: Scratch,
        before: threading.Semaphore | None,
        after: threading.Semaphore,
    ) -> None:
        self.scratch = scratch
        self._block = block
        self._sources = iter(sources)
        self._before = before
        self._after = after

    def take(self) -> Array:
        """Return the values of the next source, as it holds them, valid until the next call."""
        source = next(self._sources)
        values = self.scratch.array("reader", self._block.size, source.dtype(self._block))
        self._read(source, values)
        return values

    def take_into(self, row: Array) -> None:
        """Fill ``row`` with the values of the next source; they become of the row's dtype."""
        source = next(self._sources)
        if source.dtype(self._block) == row.dtype:
            self._read(source, row)
        else:
            values = self.scratch.array("reader", self._block.size, source.dtype(self._block))
            self._read(source, values)
            np.copyto(row, as_float(values), casting="same_kind")

    def _read(self, source: BlockSource, into: Array) -> None:
        if self._before is None:
            source.read(self._block, into)
        else:
            self._before.acquire()
            source.read(self._block, into)
            self._after.release()


def threads_for(stack_bytes: int) -> int:
    """Return how many threads to reduce with, each of which holds so many bytes of values."""
    fitting = _MOST_STACKED_BYTES // max(1, stack_bytes)
    return max(1, min(_MOST_THREADS, available_cores(), fitting))


def reduce_blocks(
    sources: Sequence[BlockSource],
    blocks: Iterable[Block],
    reduce: Callable[[Block, Reader], Result],
    threads: int | None = None,
) -> Generator[tuple[Block, Result], None, None]:
    """Yield each block with what ``reduce`` makes of it, in the order of the blocks.

    ``reduce`` takes the values of the sources from its reader. It is called by several threads at
    once, each of which has a block of its own. Close the generator to stop them.
    """
    threads = threads or threads_for(0)
    before = threading.Semaphore(len(sources))
    scratch = Scratch()
    pending: deque[tuple[Block, Future[Result]]] = deque()
    in_order = any(source.in_order for source in sources)

    def work(block: Block, before: threading.Semaphore, after: threading.Semaphore) -> Result:
        try:
            # Those who reduce look for what is not finite, and say where it came from.
            with np.errstate(over="ignore", invalid="ignore"):
                turn = before if in_order else None
                return reduce(block, Reader(block, sources, scratch, turn, after))
        finally:
            # What was not taken is not waited for. After an error, all that follows is thrown away.
            after.release(len(sources))

    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            after = threading.Semaphore(0)
            pending.append((block, pool.submit(work, block, before, after)))
            before = after
            if len(pending) > threads:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()
