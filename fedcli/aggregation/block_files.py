"""Read and write checkpoints by the blocks of another one's layout."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fedcli.aggregation.blocks import BLOCK_BYTES, Block
from fedcli.formats.checkpoint import Checkpoint, CheckpointWriter
from fedcli.formats.dtypes import Array
from fedcli.formats.safetensors import Layout
from fedcli.storage.untrusted import InputFile

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
    """The tensors of a checkpoint as blocks of ``layout``; a ``BlockSource``.

    The checkpoint may hold them in another order, under names with ``prefix``, with another dtype
    for floats (``floats`` gives it), and without some, which read as ``missing``. With ``hashed``,
    the first pass over all blocks also computes the SHA-256 of the file.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: Layout,
        *,
        prefix: str = "",
        floats: Callable[[Dtype], Dtype] | None = None,
        missing: float = 0.0,
        hashed: bool = False,
    ) -> None:
        self.keep_open = True
        self._file = checkpoint.file
        self._data_start = checkpoint.data_start
        self._prefix = prefix
        self._floats = floats
        self._missing = missing
        # In one order a block is one piece of the file, whatever the dtypes are.
        self._in_one_piece = list(checkpoint.layout) == list(layout)
        # Thousands of these are open at once, nearly all of them in the layout of the base.
        same = self._in_one_piece and checkpoint.layout == layout
        self._own = layout if same else checkpoint.layout
        self._hashed = 0  # up to which byte after the header
        self._end = max((info.stop for info in self._own.values()), default=0)
        self._hash: hashlib._Hash | None = None
        if hashed and self._in_one_piece:
            self._hash = hashlib.sha256(checkpoint.header)
        elif hashed:
            # Written in another order: hashed now, then read here and there.
            self._hash, self._hashed = _hash_of(self._file), self._end

    @property
    def in_order(self) -> bool:
        """Whether its blocks have to be read in order: to hash them, or to open it for each."""
        return not self.keep_open or (self._hash is not None and self._hashed < self._end)

    def dtype(self, block: Block) -> Dtype:
        """Return the dtype of its values in a block."""
        if block.counters or self._floats is None:
            return block.dtype
        return self._floats(block.dtype)

    def read(self, block: Block, into: Array) -> None:
        """Fill ``into`` with the values of a block; on the first pass the blocks come in order."""
        if self._in_one_piece:
            data = into.view(np.uint8).data
            first = block.parts[0]
            start = self._own[first.name].start + first.first * into.itemsize
            self._file.read_into(data, self._data_start + start)
            if self._hash is not None and self._hashed == start:
                self._hash.update(data)
                self._hashed = start + len(data)
        else:
            self._gather(block, into)
        if not self.keep_open:
            self._file.rest()

    def _gather(self, block: Block, into: Array) -> None:
        into[...] = np.full((), self._missing).astype(into.dtype)
        for place, start in _stretches(block, self._own, self._prefix):
            self._file.read_into(into[place].view(np.uint8).data, self._data_start + start)

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex, once every block has been read.

        Raises ``BadInputError`` when the file has changed since it was opened.
        """
        assert self._hash is not None
        self._file.check_unchanged()
        if not self.keep_open:
            self._file.rest()
        return self._hash.hexdigest()

    def check_in_place(self) -> None:
        """Raise ``BadInputError`` where another file has taken the place of this one."""
        self._file.check_in_place()
        if not self.keep_open:
            self._file.rest()

    def close(self) -> None:
        """Close the file."""
        self._file.rest()


def _hash_of(file: InputFile) -> "hashlib._Hash":
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK_BYTES))
    for offset in range(0, file.size, BLOCK_BYTES):
        piece = buffer[: file.size - offset]
        file.read_into(piece, offset)
        sha256.update(piece)
    return sha256


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
