"""Read and write files by the blocks of another one's layout."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fedcli.aggregation.blocks import Block
from fedcli.formats.checkpoint import CheckpointWriter, TensorFile
from fedcli.formats.dtypes import Array
from fedcli.formats.safetensors import Layout

Dtype = np.dtype[Any]


def _stretches(block: Block, layout: Layout, prefix: str = "") -> Iterator[tuple[slice, int]]:
    """Yield which values of a block lie in one piece in another layout, and at which byte.

    Tensors that the other layout does not have are passed over.
    """
    place, start, end = slice(0, 0), 0, 0
    for part in block.parts:
        info = layout.get(prefix + part.name)
        if info is None:
            continue
        first = info.start + part.first * info.dtype.itemsize
        if first != end or part.place.start != place.stop:
            if place.stop > place.start:
                yield place, start
            place, start = slice(part.place.start, part.place.start), first
        place = slice(place.start, part.place.stop)
        end = first + (part.place.stop - part.place.start) * info.dtype.itemsize
    if place.stop > place.start:
        yield place, start


class BlockFile:
    """The tensors of a file as blocks of ``layout``; a ``BlockSource``.

    The file may hold them in another order, under names with ``prefix``, with another dtype for
    floats (``floats`` gives it), and without some, which read as ``missing``.
    """

    def __init__(
        self,
        tensors: TensorFile,
        layout: Layout,
        *,
        prefix: str = "",
        floats: Callable[[Dtype], Dtype] | None = None,
        missing: float = 0.0,
    ) -> None:
        self.keep_open = True
        self._tensors = tensors
        self._prefix = prefix
        self._floats = floats
        self._missing = missing
        # In one order a block is one piece of the file, whatever the dtypes are.
        self._in_one_piece = list(tensors.layout) == list(layout)
        if tensors.in_order and not self._in_one_piece:
            tensors.read_through()  # hashed now, then read here and there

    @property
    def in_order(self) -> bool:
        """Whether its blocks have to be read in order: to hash them, or to open it for each."""
        return not self.keep_open or self._tensors.in_order

    def dtype(self, block: Block) -> Dtype:
        """Return the dtype of its values in a block."""
        if block.counters or self._floats is None:
            return block.dtype
        return self._floats(block.dtype)

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block; where they are hashed, in order."""
        if self._in_one_piece:
            first = block.parts[0]
            start = self._tensors.layout[first.name].start + first.first * into.itemsize
            self._tensors.read_into(into.view(np.uint8).data, start)
        else:
            into[...] = np.full((), self._missing).astype(into.dtype)
            for place, start in _stretches(block, self._tensors.layout, self._prefix):
                self._tensors.read_into(into[place].view(np.uint8).data, start)
        self._rest()

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex, once every block has been read.

        Raises ``BadInputError`` when the file has changed since it was opened.
        """
        sha256 = self._tensors.digest()
        self._rest()
        return sha256

    def check_in_place(self) -> None:
        """Raise ``BadInputError`` where another file has taken the place of this one."""
        self._tensors.file.check_in_place()
        self._rest()

    def _rest(self) -> None:
        if not self.keep_open:
            self.close()

    def close(self) -> None:
        """Close the file until it is read again."""
        self._tensors.close()


def write_block(writer: CheckpointWriter, block: Block, values: Array, prefix: str = "") -> None:
    """Write the values of a block to the tensors that the writer has, by their names."""
    for place, start in _stretches(block, writer.layout, prefix):
        writer.write(values[place], start)


class WrittenBlocks:
    """What was written to a checkpoint that is not published yet; a ``BlockSource``.

    Tensors that it does not have read as 0.
    """

    def __init__(self, writer: CheckpointWriter) -> None:
        self._writer = writer
        self.in_order = False

    def dtype(self, block: Block) -> Dtype:
        """Return the dtype of its values in a block."""
        return block.dtype

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block."""
        into[...] = np.zeros((), into.dtype)
        for place, start in _stretches(block, self._writer.layout):
            self._writer.read_into(into[place].view(np.uint8).data, start)
