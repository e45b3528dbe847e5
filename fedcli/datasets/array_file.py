"""Arrays in zip files (npz), with every size checked before the bytes behind it are read."""

import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from fedcli.errors import DataError
from fedcli.formats.dtypes import Array
from fedcli.storage.atomic import storage_errors

Value = TypeVar("Value")

MOST_BYTES = 32_000_000_000  # of one array
MOST_COMPRESSION = 200  # times its size in the file, of an array of at least _SUSPICIOUS bytes
_SUSPICIOUS = 100_000_000
_LONGEST_HEADER = 10_000  # bytes, as in numpy

# RuntimeError: encrypted, or (NotImplementedError) of a method or version that zipfile lacks.
_BAD_MEMBER = (
    *(KeyError, ValueError, EOFError, OverflowError, RuntimeError),
    *(zlib.error, zipfile.BadZipFile),
)


def read_member(file: zipfile.ZipFile, path: Path, name: str) -> Array:
    """Read one array into an unnamed temporary file, not into memory.

    Raises ``DataError`` for anything but plain numbers or text, and for an array whose size is not
    that of its header; nothing is ever unpickled. Raises ``StorageError`` if the disk is full.
    """

    def read() -> Array:
        member = file.getinfo(f"{name}.npy")
        _check_size(member)
        with file.open(member) as content:
            return _read(content, member, path)

    return _readable(read, path, name)


def _readable(read: Callable[[], Value], path: Path, name: str) -> Value:
    try:
        return read()
    except _BAD_MEMBER as error:
        raise DataError(f"{name}: not a readable array: {error}", path=path) from None


def _check_size(member: zipfile.ZipInfo) -> None:
    """Raise ``ValueError`` for an array that would be too large outside of its file."""
    size, ratio = member.file_size, member.file_size / max(1, member.compress_size)
    if size > MOST_BYTES:
        raise ValueError(f"it unpacks to {size:,} bytes; expected at most {MOST_BYTES:,}")
    if size > _SUSPICIOUS and ratio > MOST_COMPRESSION:
        raise ValueError(
            f"it unpacks from {member.compress_size:,} to {size:,} bytes, {ratio:.0f} times as"
            f" many; expected at most {MOST_COMPRESSION} times: save it with numpy.savez"
        )


def _read(content: IO[bytes], member: zipfile.ZipInfo, path: Path) -> Array:
    shape, column_order, dtype = _read_header(content)
    held = member.file_size - content.tell()
    declared = math.prod(shape) * dtype.itemsize
    if declared != held:
        raise ValueError(
            f"its header declares {dtype} {list(shape)}, {declared:,} bytes, but it holds {held:,}"
        )
    if declared == 0 or not shape:
        return np.empty(shape or (0,), dtype)
    with storage_errors("unpack", path), tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(content, spool, 1 << 20)
        values = np.memmap(spool, dtype, "r", shape=shape[::-1] if column_order else shape)
    return np.asarray(values).T if column_order else np.asarray(values)


def _read_header(content: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and dtype. Raises ``ValueError``."""
    reader = {(1, 0): np.lib.format.read_array_header_1_0}
    read = reader.get(np.lib.format.read_magic(content), np.lib.format.read_array_header_2_0)
    try:
        shape, column_order, dtype = read(content, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # numpy evaluates the header, which may be anything
        raise ValueError("its header cannot be read") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects; expected plain numbers")
    if any(size < 0 for size in shape):
        raise ValueError(f"its header declares the negative shape {list(shape)}")
    return shape, column_order, dtype
