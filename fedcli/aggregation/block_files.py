"""Read and write files in the blocks of another file's layout."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fedcli.aggregation.blocks import Block
from fedcli.formats.checkpoint import CheckpointWriter, TensorFile
from fedcli.formats.dtypes import Array
from fedcli.formats.safetensors import Layout

Dtype = np.dtype[Any]


def _stretches(block: Block, layout: Layout, prefix: str = "") -> Iterator[tuple[slice, int]]:
    """Yield the runs of a block that are contiguous in another layout, with their first bytes.

    Tensors missing from that layout are skipped.
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

    The file may store them in another order, under names with ``prefix``, and with another dtype
    for floats (``floats`` returns it). Tensors that it lacks read as ``missing``.
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
        # In the same order, a block is contiguous in the file, whatever the dtypes are.
        self._in_one_piece = list(tensors.layout) == list(layout)
        if tensors.in_order and not self._in_one_piece:
            tensors.read_through()  # hash it now: the blocks are read out of order

    @property
    def in_order(self) -> bool:
        """Whether blocks must be read in order: they are hashed, or the file is reopened."""
        return not self.keep_open or self._tensors.in_order

    def dtype(self, block: Block) -> Dtype:
        """Return the dtype of a block."""
        if block.counters or self._floats is None:
            return block.dtype
        return self._floats(block.dtype)

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block."""
        if self._in_one_piece:
            first = block.parts[0]
            start = self._tensors.layout[first.name].start + first.first * into.itemsize
            self._tensors.read_into(into.view(np.uint8).data, start)
        else:
            into[...] = np.full((), self._missing).astype(into.dtype)
            for place, start in _stretches(block, self._tensors.layout, self._prefix):
                self._tensors.read_into(into[place].view(np.uint8).data, start)
        self._close_unless_kept()

    def read_unhashed(self, name: str, first: int, into: Array) -> None:
        """Fill ``into`` with a tensor's values from ``first`` on; it counts as no read in order."""
        info = self._tensors.layout[name]
        start = info.start + first * info.dtype.itemsize
        self._tensors.read_unhashed(into.view(np.uint8).data, start)
        self._close_unless_kept()

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex, once every block has been read.

        Raises ``BadInputError`` if the file has changed since it was opened.
        """
        sha256 = self._tensors.digest()
        self._close_unless_kept()
        return sha256

    def check_in_place(self) -> None:
        """Raise ``BadInputError`` if the file was replaced."""
        self._tensors.file.check_in_place()
        self._close_unless_kept()

    def _close_unless_kept(self) -> None:
        if not self.keep_open:
            self.close()

    def close(self) -> None:
        """Close the file until it is read again."""
        self._tensors.close()


def write_block(writer: CheckpointWriter, block: Block, values: Array, prefix: str = "") -> None:
    """Write the values of a block to the writer's tensors of the same names."""
    for place, start in _stretches(block, writer.layout, prefix):
        writer.write(values[place], start)


def write_copies(
    writer: CheckpointWriter, block: Block, values: Array, tied: Mapping[str, str]
) -> None:
    """Write the values of tied tensors under their other names, too."""
    for alias, name in tied.items():
        for part in block.parts:
            if part.name == name:
                info = writer.layout[alias]
                writer.write(values[part.place], info.start + part.first * info.dtype.itemsize)


class WrittenBlocks:
    """The blocks of a checkpoint that is not published yet; a ``BlockSource``.

    Tensors that it lacks read as 0.
    """

    def __init__(self, writer: CheckpointWriter) -> None:
        self._writer = writer
        self.in_order = False

    def dtype(self, block: Block) -> Dtype:
        """Return the dtype of a block."""
        return block.dtype

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block."""
        into[...] = np.zeros((), into.dtype)
        for place, start in _stretches(block, self._writer.layout):
            self._writer.read_into(into[place].view(np.uint8).data, start)
