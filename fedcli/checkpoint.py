"""The one reader and writer of safetensors checkpoints.

A checkpoint is a safetensors file whose tensor names are the model's ``state_dict`` names.
Its metadata is one key, ``fedcli``, holding canonical JSON. Nothing volatile goes in: equal
content gives equal bytes, so a checkpoint is known by the SHA-256 of its file.

Tensors are laid out by item size (largest first), dtype and name, which keeps each aligned.
The header is padded to a multiple of eight bytes.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from fedcli.dtypes import DTYPE_NAMES, DTYPES, Array
from fedcli.errors import CheckpointError
from fedcli.files import atomic_writer, read_all, write_all
from fedcli.input_file import InputFile
from fedcli.metadata import Kind, Metadata
from fedcli.printable import brief
from fedcli.strict_json import parse_flat

# The safetensors library takes 100 MB. What is read of a header takes ten times its size, or more;
# 16 MB hold 70,000 tensors, or the SHA-256s of 150,000 updates.
_MAX_HEADER = 16_000_000
_MOST_DIMENSIONS = 64  # of numpy and torch; the product of more could take hours
_LARGEST = 2**63  # no size and no place in a file is beyond


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: ``start`` and ``stop`` count bytes from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


Layout = dict[str, TensorInfo]


def layout_of(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Layout:
    """Lay out tensors of the given dtypes and shapes, without gaps."""
    order = sorted(tensors, key=lambda n: (-tensors[n][0].itemsize, DTYPE_NAMES[tensors[n][0]], n))
    return layout_in_order({name: tensors[name] for name in order})


def layout_in_order(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Layout:
    """Lay out tensors in the order that they are given in, without gaps."""
    layout, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        stop = offset + dtype.itemsize * math.prod(shape)
        layout[name] = TensorInfo(dtype, shape, offset, stop)
        offset = stop
    return layout


def _parse_tensor(name: str, entry: Any) -> TensorInfo:
    try:
        dtype, shape, offsets = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if type(shape) is not list or type(offsets) is not list:
            raise TypeError
        start, stop = offsets
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tensor {brief(name)} is described wrongly") from None
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"tensor {brief(name)} has {len(shape)} dimensions")
    if not all(type(n) is int and 0 <= n < _LARGEST for n in (*shape, start, stop)):
        raise ValueError(f"tensor {brief(name)} has a shape or offsets that are not whole numbers")
    if stop - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"tensor {brief(name)} has {stop - start} bytes for shape {shape}")
    return TensorInfo(dtype, tuple(shape), start, stop)


def _parse_header(text: bytes, data_size: int) -> tuple[Layout, str | None]:
    entries = parse_flat(text)
    if not isinstance(entries, dict):
        raise ValueError("its header is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    infos = {name: _parse_tensor(name, entry) for name, entry in entries.items()}
    layout = dict(sorted(infos.items(), key=lambda item: (item[1].start, item[1].stop)))
    offset = 0
    for name, info in layout.items():
        if info.start != offset:
            raise ValueError(f"tensor {brief(name)} starts at byte {info.start}, expected {offset}")
        offset = info.stop
    if offset != data_size:
        raise ValueError(f"truncated or too long: {data_size} bytes of tensors, expected {offset}")
    own = metadata.get("fedcli") if isinstance(metadata, dict) else None
    return layout, own if isinstance(own, str) else None


class TensorFile:
    """An open safetensors file, whoever wrote it: its tensors are read on demand.

    ``text`` is what it holds as this program's metadata, None where it holds none.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        """Read the header of ``path``; a symbolic link is followed only with ``follow``.

        Raises ``NotReadyError`` when there is no such file, ``StorageError`` when it cannot be
        read, and ``CheckpointError`` when it is not a whole safetensors file.
        """
        self.path = path
        self.file = InputFile(path, follow=follow)
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        self.size = self.file.size
        length = int.from_bytes(self.file.read(8, 0), "little") if self.size >= 8 else 0
        if not 2 <= length <= self.size - 8:
            raise CheckpointError(f"{self.path}: not a safetensors file, or truncated")
        if length > _MAX_HEADER:
            raise CheckpointError(
                f"{self.path}: its header has {length} bytes, expected at most {_MAX_HEADER}"
            )
        self.data_start = 8 + length
        self.header = self.file.read(self.data_start, 0)
        try:
            self.layout, self.text = _parse_header(self.header[8:], self.size - self.data_start)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {error}") from None

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) with what lies ``offset`` bytes after the header."""
        self.file.read_into(buffer, self.data_start + offset)

    def tensor(self, name: str) -> Array:
        """Read one tensor."""
        info = self.layout[name]
        try:
            values = np.empty(info.shape, info.dtype)
        except (ValueError, MemoryError) as error:  # dimensions of numpy; a file with holes
            raise CheckpointError(f"{self.path}: tensor {brief(name)}: {error}") from None
        self.read_into(values.reshape(-1).view(np.uint8).data, info.start)
        return values

    def tensors(self) -> dict[str, Array]:
        """Read all tensors."""
        values = {name: self.tensor(name) for name in self.layout}
        self.file.check_unchanged()
        return values

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex."""
        return self.file.digest()

    def close(self) -> None:
        """Close the file."""
        self.file.rest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Checkpoint(TensorFile):
    """An open checkpoint of this program, with what it says of itself."""

    def __init__(self, path: Path, kind: Kind | None = None) -> None:
        """Open ``path``, and require that it is of ``kind`` where one is given.

        A symbolic link is followed to a partial mean only, which lies where a person said.

        Raises what ``TensorFile`` does, and ``CheckpointError`` for a file that is none of this
        program, or of another kind.
        """
        super().__init__(path, follow=kind == Kind.PARTIAL)
        try:
            self._read_metadata(kind)
        except BaseException:
            self.close()
            raise

    def _read_metadata(self, kind: Kind | None) -> None:
        try:
            if self.text is None:
                raise ValueError("no fedcli metadata: not written by this program")
            self.metadata = Metadata.decode(self.text)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        if kind is not None and self.metadata.kind != kind:
            found = self.metadata.kind
            raise CheckpointError(
                f"{self.path}: expected a checkpoint of kind {kind}, found {found}"
            )


class CheckpointWriter:
    """Fills a checkpoint piece by piece; made by ``create``."""

    def __init__(self, file: FileIO, layout: Layout, metadata: Metadata) -> None:
        self._file = file
        self.layout = layout
        self.metadata = metadata
        self._header = encode_header(layout, _notes(metadata))
        self.finished = False

    @property
    def size(self) -> int:
        """The size of the whole file, in bytes."""
        return len(self._header) + max((info.stop for info in self.layout.values()), default=0)

    def write(self, values: Array, offset: int) -> None:
        """Write the bytes of a contiguous array ``offset`` bytes after the header."""
        flat = np.asarray(values, order="C").reshape(-1)
        write_all(self._file, flat.view(np.uint8).data, len(self._header) + offset)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) with what was written ``offset`` bytes after the header."""
        read_all(self._file, buffer, len(self._header) + offset)

    def finish(self, metadata: Metadata | None = None) -> str:
        """Write the header, and return the SHA-256 of the whole file, hex.

        ``metadata`` takes the place of what was known at the start, where it is as long: such as
        one with the hashes of what was read filled in. Raises ``ValueError`` where it is not.
        """
        header = self._header if metadata is None else encode_header(self.layout, _notes(metadata))
        if len(header) != len(self._header):
            raise ValueError("the metadata changed its length after tensors had been written")
        write_all(self._file, header, 0)
        self._file.seek(0)
        self.finished = True
        return hashlib.file_digest(cast(Any, self._file), "sha256").hexdigest()


def _notes(metadata: Metadata) -> dict[str, str]:
    return {"fedcli": metadata.encode()}


def encode_header(layout: Layout, notes: Mapping[str, str]) -> bytes:
    """Return all that comes before the tensors in a file; ``notes`` are what it says of itself."""
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    for name, info in layout.items():
        header[name] = {
            "dtype": DTYPE_NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [info.start, info.stop],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def create(
    path: Path, layout: Layout, metadata: Metadata, *, replace: bool = True
) -> Iterator[CheckpointWriter]:
    """Write a checkpoint piece by piece; it appears at ``path`` when the block ends well.

    The header is written by ``finish``, at the latest when the block ends. ``replace`` is as
    ``files.atomic_writer`` takes it. Raises ``StorageError`` and ``OvertakenError`` as that does.
    """
    with atomic_writer(path, replace=replace) as file:
        writer = CheckpointWriter(file, layout, metadata)
        yield writer
        if not writer.finished:
            writer.finish()


def save(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Metadata,
    before_publishing: Callable[[str, int], None] | None = None,
    *,
    replace: bool = True,
) -> str:
    """Write a checkpoint in one go and return the SHA-256 of its file, hex.

    ``before_publishing`` is called with the SHA-256 and the size of the whole file just before
    it is renamed into place. ``replace`` is as ``files.atomic_writer`` takes it.
    """
    layout = layout_of({name: (array.dtype, array.shape) for name, array in tensors.items()})
    with create(path, layout, metadata, replace=replace) as writer:
        for name, info in layout.items():
            writer.write(tensors[name], info.start)
        sha256 = writer.finish()
        if before_publishing is not None:
            before_publishing(sha256, writer.size)
    return sha256


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hex, wherever a link leads. Raises what ``InputFile`` does."""
    with InputFile(path, follow=True) as file:
        return file.digest()
