"""Checkpoints: read tensor by tensor, written piece by piece.

A checkpoint is a safetensors file whose tensor names are the model's ``state_dict`` names. Its
metadata has one key, ``fedcli``, which holds canonical JSON without anything volatile. Equal
content gives equal bytes, so the SHA-256 of the file identifies a checkpoint.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from fedcli.errors import CheckpointError
from fedcli.formats.dtypes import Array
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout, encode_header, layout_of, parse_header
from fedcli.storage.atomic import Draft, draft, read_all, write_all
from fedcli.storage.commit import commit
from fedcli.storage.strict_json import check_memory
from fedcli.storage.untrusted import InputFile
from fedcli.text import brief

# The safetensors library allows 100 MB. A parsed header takes at least ten times its size in
# memory; 16 MB hold 70,000 tensors, or the SHA-256s of 150,000 updates.
_MAX_HEADER = 16_000_000
_PIECE = 256 * 1024  # bytes read at a time


class TensorFile:
    """An open safetensors file from any program; its tensors are read on demand.

    ``layout`` gives the position of each tensor, ``size`` the size of the file in bytes. ``text``
    is this program's metadata as it stands in the file, or None.
    """

    def __init__(self, path: Path, *, follow: bool = False, most: int | None = None) -> None:
        """Read the header of ``path``; follow a symbolic link only with ``follow``.

        Raises ``NotReadyError`` when the file does not exist, ``StorageError`` when it cannot be
        read, ``CheckpointError`` when it is not a complete safetensors file, and ``BadInputError``
        when it has more than ``most`` bytes.
        """
        self.path = path
        self.file = InputFile(path, follow=follow)
        self._sha256: hashlib._Hash | None = None
        self._hashed = 0  # bytes of the tensors hashed so far
        try:
            self.file.check_size(most)
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        self.size = self.file.size
        length = int.from_bytes(self.file.read(8, 0), "little") if self.size >= 8 else 0
        if not 2 <= length <= self.size - 8:
            raise CheckpointError("not a safetensors file, or truncated", path=self.path)
        if length > _MAX_HEADER:
            raise CheckpointError(
                f"its header has {length} bytes, expected at most {_MAX_HEADER}", path=self.path
            )
        self.data_start = 8 + length
        header = self.file.read(self.data_start, 0)
        self._header_sha256 = hashlib.sha256(header)
        try:
            self.layout, self.text = parse_header(header[8:], self.size - self.data_start)
        except ValueError as error:
            raise CheckpointError(str(error), path=self.path) from None

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) from the tensors, starting ``offset`` bytes into them."""
        self.read_stored(buffer, offset)

    def read_unhashed(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` like ``read_into``; it counts as no read in order."""
        self.file.read_into(buffer, self.data_start + offset)

    def read_stored(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` from the bytes of the file after its header."""
        self.file.read_into(buffer, self.data_start + offset)
        if self._sha256 is not None and offset == self._hashed:
            self._sha256.update(buffer)
            self._hashed += len(buffer)

    def hash_as_read(self) -> None:
        """Compute the SHA-256 while reading; this needs one read of all tensors, in order."""
        self._sha256, self._hashed = self._header_sha256.copy(), 0

    @property
    def in_order(self) -> bool:
        """Whether the tensors are being hashed and have to be read on in order."""
        return self._sha256 is not None and self._hashed < self.size - self.data_start

    def read_through(self, see: Callable[[memoryview, int], None] | None = None) -> str:
        """Read all tensors once, in order, and return the SHA-256 of the file, hex.

        ``see`` receives each piece and its offset into the tensors, in bytes.
        """
        self.hash_as_read()
        buffer, end = memoryview(bytearray(_PIECE)), self.size - self.data_start
        for start in range(0, end, _PIECE):
            piece = buffer[: end - start]
            self.read_stored(piece, start)
            if see is not None:
                see(piece, start)
        return self.digest()

    def tensor(self, name: str) -> Array:
        """Read one tensor."""
        return self._tensor(name, self.read_into)

    def stored(self, name: str) -> Array:
        """Read one tensor as it is in the file."""
        return self._tensor(name, self.read_stored)

    def _tensor(self, name: str, read: Callable[[memoryview, int], None]) -> Array:
        info = self.layout[name]
        try:
            values = np.empty(info.shape, info.dtype)
        except (ValueError, MemoryError) as error:  # too many dimensions; a sparse file
            raise CheckpointError(f"tensor {brief(name)}: {error}", path=self.path) from None
        read(values.reshape(-1).view(np.uint8).data, info.start)
        return values

    def tensors(self) -> dict[str, Array]:
        """Read all tensors."""
        values = {name: self.tensor(name) for name in self.layout}
        self.file.check_unchanged()
        return values

    def tensors_and_digest(self) -> tuple[dict[str, Array], str]:
        """Read all tensors; return them with the SHA-256 of exactly the bytes that were read."""
        self.hash_as_read()
        return self.tensors(), self.digest()

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex; of the bytes read if all of them were read."""
        if self._sha256 is None or self.in_order:
            return self.file.digest()
        self.file.check_unchanged()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self.file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Checkpoint(TensorFile):
    """An open checkpoint of this program, with its metadata."""

    def __init__(
        self, path: Path, kind: Kind | None = None, *, follow: bool = False, most: int | None = None
    ) -> None:
        """Open ``path``; if ``kind`` is given, require it.

        Without ``follow``, symbolic links are followed only to partial means, whose paths a person
        gave.

        Raises what ``TensorFile`` does, and ``CheckpointError`` for a file that this program did
        not write, or of another kind.
        """
        super().__init__(path, follow=follow or kind == Kind.PARTIAL, most=most)
        try:
            self._read_metadata(kind)
        except BaseException:
            self.close()
            raise

    def _read_metadata(self, kind: Kind | None) -> None:
        try:
            if self.text is None:
                raise ValueError("no fedcli metadata: not written by this program")
            self.metadata, self.text = Metadata.decode(self.text), None
        except ValueError as error:
            raise CheckpointError(str(error), path=self.path) from None
        if kind is not None and self.metadata.kind != kind:
            found = self.metadata.kind
            raise CheckpointError(
                f"expected a checkpoint of kind {kind}, found {found}", path=self.path
            )


class CheckpointWriter:
    """Writes a checkpoint piece by piece; ``create`` makes it.

    Raises ``CheckpointError`` for a header that the reader would refuse for its size.
    ``sha256`` is the digest of the whole file, hex; empty until the file is finished.
    """

    def __init__(self, started: Draft, layout: Layout, metadata: Metadata) -> None:
        self.layout = layout
        self.metadata = metadata
        self.sha256 = ""
        self._draft = started
        self._file = started.file
        self._header = _encoded_header(started.path, layout, metadata)

    @property
    def size(self) -> int:
        """The size of the whole file, in bytes."""
        return len(self._header) + max((info.stop for info in self.layout.values()), default=0)

    def write(self, values: Array, offset: int) -> None:
        """Write the bytes of a contiguous array ``offset`` bytes after the header."""
        flat = np.asarray(values, order="C").reshape(-1)
        write_all(self._file, flat.view(np.uint8).data, len(self._header) + offset)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` with the bytes written ``offset`` bytes after the header."""
        read_all(self._file, buffer, len(self._header) + offset)

    def flush(self) -> None:
        """Flush what was written to the disk, so that publishing takes no time."""
        os.fsync(self._file.fileno())

    def finish(self, metadata: Metadata | None = None) -> str:
        """Write the header, and return the SHA-256 of the whole file, hex.

        ``metadata`` replaces that given at the start, for example with hashes filled in, and must
        encode to the same length; else raises ``ValueError``.
        """
        header = self._header if metadata is None else encode_header(self.layout, _notes(metadata))
        if len(header) != len(self._header):
            raise ValueError("the metadata changed its length after tensors had been written")
        write_all(self._file, header, 0)
        self._file.seek(0)
        self.sha256 = hashlib.file_digest(cast(Any, self._file), "sha256").hexdigest()
        return self.sha256

    def publish(self) -> None:
        """Rename the file into place, unless that has been done."""
        if not self._draft.published:
            self._draft.publish()

    def commit(
        self, companions: Sequence[Path], write: Callable[[], None], *, replaces: bool
    ) -> None:
        """``write`` the files that belong to the finished checkpoint, then publish it.

        See ``storage.commit``.
        """
        path = self._draft.path
        commit(
            path,
            companions,
            write=write,
            publish=self.publish,
            is_done=lambda: path.exists() and digest(path) == self.sha256,
            replaces=replaces,
        )


def _encoded_header(path: Path, layout: Layout, metadata: Metadata) -> bytes:
    try:
        metadata.check_size()
        header = encode_header(layout, _notes(metadata))
        if len(header) - 8 > _MAX_HEADER:
            raise ValueError(f"a header of {len(header)} bytes, expected at most {_MAX_HEADER}")
        check_memory(header)
    except ValueError as error:
        raise CheckpointError(
            f"was not written, because no fedcli could read it: {error}", path=path
        ) from None
    return header


def _notes(metadata: Metadata) -> dict[str, str]:
    return {"fedcli": metadata.encode()}


@contextmanager
def create(
    path: Path, layout: Layout, metadata: Metadata, *, replace: bool = True
) -> Iterator[CheckpointWriter]:
    """Write a checkpoint piece by piece; it appears at ``path`` when the block succeeds.

    ``finish`` writes the header, at the latest when the block ends. ``replace`` works as in
    ``atomic.draft``. Raises ``StorageError`` and ``OvertakenError`` as that does.
    """
    with draft(path, replace=replace) as started:
        writer = CheckpointWriter(started, layout, metadata)
        yield writer
        if not writer.sha256:
            writer.finish()
        writer.publish()


@contextmanager
def prepare(
    path: Path, tensors: Mapping[str, Array], metadata: Metadata, *, replace: bool = True
) -> Iterator[CheckpointWriter]:
    """Write and finish a checkpoint; it appears at ``path`` when the block succeeds.

    ``replace`` works as in ``atomic.draft``.
    """
    layout = layout_of({name: (array.dtype, array.shape) for name, array in tensors.items()})
    with create(path, layout, metadata, replace=replace) as writer:
        for name, info in layout.items():
            writer.write(tensors[name], info.start)
        writer.finish()
        yield writer


def save(
    path: Path, tensors: Mapping[str, Array], metadata: Metadata, *, replace: bool = True
) -> str:
    """Write a checkpoint and return the SHA-256 of its file, hex; arguments as in ``prepare``."""
    with prepare(path, tensors, metadata, replace=replace) as writer:
        return writer.sha256


def digest(path: Path, *, most: int | None = None) -> str:
    """Return the SHA-256 of a file, hex, following links.

    Raises what ``InputFile`` does, and ``BadInputError``, unread, above ``most`` bytes.
    """
    with InputFile(path, follow=True) as file:
        file.check_size(most)
        return file.digest()
