"""Read many files of one layout in parallel, block by block, in one pass.

One thread reads, hashes and reduces a block of each file while it is in the CPU cache: digests
need no second read, and memory grows with neither the number of files nor their size.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from fedcli.aggregation.scratch import Scratch
from fedcli.formats.dtypes import Array, as_float, is_float
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout
from fedcli.system import available_cores

# The float64 sums of a block should fit into the L2 cache; measured from 128 KiB to 1 MiB.
BLOCK_BYTES = 256 * 1024
# Each thread needs its own memory, and a disk rarely keeps more of them busy.
_MOST_THREADS = 8
_MOST_STACKED_BYTES = 32 * 1024 * 1024  # in all threads together

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A block's part of a tensor: ``place`` in the block holds the elements from ``first`` on."""

    name: str
    role: Role
    place: slice
    first: int


@dataclass(frozen=True, slots=True)
class Block:
    """A contiguous range of a layout with one dtype, either all counters or all floats.

    It may span many small tensors or a part of a large one. ``start`` and ``stop`` are bytes
    as in ``TensorInfo``; ``size`` is a number of values.
    """

    dtype: np.dtype[Any]
    counters: bool
    start: int
    stop: int
    parts: tuple[TensorSlice, ...]

    @property
    def size(self) -> int:
        """The number of values."""
        return (self.stop - self.start) // self.dtype.itemsize

    @property
    def others(self) -> list[TensorSlice]:
        """The parts that are not of parameters."""
        return [part for part in self.parts if part.role != Role.PARAMETER]

    @property
    def buffers(self) -> list[slice]:
        """The ranges of values that are not parameters."""
        return [part.place for part in self.others]

    @property
    def controls(self) -> list[slice]:
        """The ranges of control variates."""
        return [part.place for part in self.parts if part.role == Role.CONTROL]

    def only(self, part: TensorSlice) -> "Block":
        """Return the block of one of its parts alone."""
        start, stop = (
            self.start + edge * self.dtype.itemsize for edge in (part.place.start, part.place.stop)
        )
        alone = replace(part, place=slice(0, part.place.stop - part.place.start))
        return Block(self.dtype, self.counters, start, stop, (alone,))


def blocks_of(
    layout: Layout, roles: Mapping[str, Role], size: int = BLOCK_BYTES, chunk: int | None = None
) -> list[Block]:
    """Cut a layout into blocks of at most ``size`` bytes, in order.

    With ``chunk``, blocks start where parameters of a multiple of that number do instead, and have
    at most twice the size: encoded updates are decoded in such chunks.
    """
    stretches: list[list[str]] = []
    for name, info in layout.items():
        if stretches and layout[stretches[-1][0]].dtype == info.dtype:
            stretches[-1].append(name)
        else:
            stretches.append([name])
    edges = [] if chunk is None else _chunk_starts(layout, roles, chunk)
    return [block for names in stretches for block in _cut(layout, roles, names, size, edges)]


def _chunk_starts(layout: Layout, roles: Mapping[str, Role], chunk: int) -> list[int]:
    """Return at which bytes of a layout the chunks of its parameters start."""
    starts, count = [], 0
    for name, info in layout.items():
        if is_float(info.dtype) and roles.get(name, Role.PARAMETER) == Role.PARAMETER:
            width = info.dtype.itemsize
            size = (info.stop - info.start) // width
            starts += [info.start + first * width for first in range(-count % chunk, size, chunk)]
            count += size
    return starts


def _places(start: int, end: int, size: int, edges: Sequence[int]) -> list[tuple[int, int]]:
    """Cut bytes at the edges, which are ascending, or else into pieces of one size."""
    within = [edge for edge in edges if start < edge < end]
    if not within:
        return [(first, min(first + size, end)) for first in range(start, end, size)]
    pairs = pairwise([start, *within, end])
    return [
        (first, min(first + size, stop) if stop - low > 2 * size else stop)
        for low, stop in pairs
        for first in (range(low, stop, size) if stop - low > 2 * size else [low])
    ]


def _cut(
    layout: Layout, roles: Mapping[str, Role], names: Sequence[str], size: int, edges: Sequence[int]
) -> Iterable[Block]:
    dtype = layout[names[0]].dtype
    end, index = layout[names[-1]].stop, 0
    for start, stop in _places(layout[names[0]].start, end, size, edges):
        parts = []
        while index < len(names) and layout[names[index]].start < stop:
            info = layout[names[index]]
            first, last = max(info.start, start), min(info.stop, stop)
            if first < last:
                place = slice((first - start) // dtype.itemsize, (last - start) // dtype.itemsize)
                role = roles.get(names[index], Role.PARAMETER)
                offset = (first - info.start) // dtype.itemsize
                parts.append(TensorSlice(names[index], role, place, offset))
            if info.stop > stop:
                break
            index += 1
        yield Block(dtype, not is_float(dtype), start, stop, tuple(parts))


class BlockSource(Protocol):
    """A source of blocks."""

    @property
    def in_order(self) -> bool:
        """Whether its blocks must be read one after another, in order."""

    def dtype(self, block: Block) -> np.dtype[Any]:
        """Return the dtype of a block."""

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block."""


Gates = dict[BlockSource, threading.Lock]  # each is opened once and passed once


class Again(Enum):
    """What follows when a source that is hashed is read twice in a block."""

    NEVER = 0  # an error
    FROM_MEMORY = 1  # what was read is kept as long as the reader
    FROM_FILE = 2  # while other threads read on, which only plain files that stay open allow


class Reader:
    """Reads one block of the sources, each source at most once.

    Hashing needs a file's blocks in order: a thread waits until the thread with the previous
    block has read it. Threads never wait for other sources. ``again`` says what follows when one
    is read a second time.
    """

    def __init__(
        self, block: Block, scratch: Scratch, before: Gates, after: Gates, again: Again
    ) -> None:
        self.scratch = scratch
        self._block = block
        self._before = dict(before)
        self._after = after
        self._again = again
        self._kept: dict[BlockSource, Any] | None = {} if again == Again.FROM_MEMORY else None

    def read(self, source: BlockSource) -> Array:
        """Return the values of a source in its dtype, valid until the next call."""
        return self.take(source, lambda block: self._values(source, block))

    def _values(self, source: BlockSource, block: Block) -> Array:
        place = "reader" if self._kept is None else f"reader {len(self._kept)}"
        values = self.scratch.array(place, block.size, source.dtype(block))
        source.read(block, values)
        return values

    def read_into(self, source: BlockSource, row: Array) -> None:
        """Fill ``row`` with the values of a source, cast to the row's dtype."""
        if self._kept is None and source.dtype(self._block) == row.dtype:
            self.take(source, lambda block: source.read(block, row))
        else:
            np.copyto(row, as_float(self.read(source)), casting="same_kind")

    def take(self, source: BlockSource, read: Callable[[Block], Result]) -> Result:
        """Return what ``read`` finds in the block of a source, in place of its values."""
        if self._kept is None:
            return self._pass(source, read)
        if source not in self._kept:
            self._kept[source] = self._pass(source, read)
        found: Result = self._kept[source]
        return found

    def _pass(self, source: BlockSource, read: Callable[[Block], Result]) -> Result:
        """Read a source between the block before and the one after."""
        if source not in self._after:
            return read(self._block)
        if source not in self._before:
            if self._again == Again.FROM_FILE:
                return read(self._block)
            raise ValueError("a source that is hashed while it is read was read twice in a block")
        self._before.pop(source).acquire()
        try:
            return read(self._block)
        finally:
            self._after[source].release()

    def read_rest(self) -> None:
        """Read the sources that must be hashed and were not read."""
        for source in list(self._before):
            self.read(source)

    def give_up(self) -> None:
        """Pass unread sources on to the next block, in turn."""
        for source, gate in self._before.items():
            gate.acquire()
            self._after[source].release()


def threads_for(stack_bytes: int) -> int:
    """Return how many threads to use if each holds ``stack_bytes`` of values."""
    fitting = _MOST_STACKED_BYTES // max(1, stack_bytes)
    return max(1, min(_MOST_THREADS, available_cores(), fitting))


def reduce_blocks(
    sources: Sequence[BlockSource],
    blocks: Iterable[Block],
    reduce: Callable[[Block, Reader], Result],
    threads: int | None = None,
    again: Again = Again.NEVER,
) -> Generator[tuple[Block, Result], None, None]:
    """Yield each block with the result of ``reduce``, in block order.

    ``reduce`` reads the sources through its reader. Several threads call it at once, each with
    its own block. Close the generator to stop them.
    """
    threads = threads or threads_for(0)
    in_order = [source for source in sources if source.in_order]
    scratch = Scratch()
    pending: deque[tuple[Block, Future[Result]]] = deque()

    def work(block: Block, before: Gates, after: Gates) -> Result:
        reader = Reader(block, scratch, before, after, again)
        try:
            # ``reduce`` checks for values that are not finite, and says where they come from.
            with np.errstate(over="ignore", invalid="ignore"):
                result = reduce(block, reader)
            reader.read_rest()
            return result
        except BaseException:
            reader.give_up()  # later results are discarded
            raise

    before = {source: threading.Lock() for source in in_order}
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            after = {source: _closed_gate() for source in in_order}
            pending.append((block, pool.submit(work, block, before, after)))
            before = after
            if len(pending) > threads:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate
