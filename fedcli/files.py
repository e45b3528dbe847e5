"""The one way a file comes to be: written aside, flushed to disk, renamed into place.

A reader sees the old file, the new one, or none; never half of one.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Self

from fedcli.errors import BadInputError, NotReadyError, StorageError

_TEMPORARY = re.compile(r"^\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.tmp$")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "localhost"


@contextlib.contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that says what was done to which file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path}: cannot {action}: {reason}",
            hint="nothing was changed; repeat the command once the cause is removed",
        ) from error


def is_running(pid: int) -> bool:
    """Say whether there is such a process on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove_leftovers(directory: Path) -> None:
    """Delete what processes of this host left behind aside when they were killed."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            match = _TEMPORARY.match(entry.name)
            if match and match["host"] == _host() and not is_running(int(match["pid"])):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")


def second_name(path: Path) -> Path | None:
    """Give a file a second name, under which it can be had back; None where there is none.

    Nor is there where the file system has no hard links. Whoever asked removes it.
    """
    second = _temporary(path.with_name(f"{path.name}.before"))
    try:
        second.unlink(missing_ok=True)
        second.hardlink_to(path)
    except OSError:
        return None
    return second


@contextlib.contextmanager
def directory_aside(parent: Path, name: str) -> Iterator[Path]:
    """Give a directory in ``parent`` to build files in that are then renamed into place.

    What is left in it when the block ends, well or not, is removed. Raises ``StorageError``.
    """
    temporary = _temporary(parent / name)
    with storage_errors("write", parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[FileIO]:
    """Open a file that becomes ``path`` when the block ends well, and vanishes otherwise.

    The file is unbuffered, readable and writable, so that it can be filled out of order.
    Raises ``StorageError`` when the disk is full, the permission is missing, and the like.
    """
    temporary = _temporary(path)
    with storage_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        try:
            with temporary.open("w+b", buffering=0) as file:
                yield file
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    # The file is in place by now, and some network file systems cannot flush a directory:
    # failing here would say that nothing was written.
    with contextlib.suppress(OSError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_all(file: FileIO, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``: one ``pwrite`` may write less than it was given."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def read_all(file: FileIO, buffer: memoryview, offset: int) -> None:
    """Fill ``buffer`` from ``offset`` on. Raises ``OSError`` where the file ends before."""
    while buffer:
        count = os.preadv(file.fileno(), [buffer], offset)
        if count == 0:
            raise OSError(f"ends at byte {offset}")
        buffer, offset = buffer[count:], offset + count


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_writer(path) as file:
        write_all(file, data, 0)


class InputFile:
    """A regular file that is read piece by piece.

    ``rest`` gives its descriptor back between two reads, for those who read more files at once
    than a process may have open. Raises ``NotReadyError`` when there is no such file,
    ``StorageError`` when it cannot be read, and ``BadInputError`` when it is not a regular file,
    became shorter, or was replaced while it was resting.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._status: os.stat_result | None = None
        self.size = os.fstat(self._wake()).st_size

    def _wake(self) -> int:
        if self._fd is None:
            try:
                # O_NONBLOCK: opening a named pipe returns, so that it can be refused
                self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:
                raise NotReadyError(f"{self.path}: no such file") from None
            except OSError as error:
                raise StorageError(f"{self.path}: cannot read: {error.strerror}") from error
            try:
                self._check()
            except BaseException:
                self.rest()
                raise
        return self._fd

    def _check(self) -> None:
        assert self._fd is not None
        status, before = os.fstat(self._fd), self._status
        if not stat.S_ISREG(status.st_mode):
            raise BadInputError(f"{self.path}: expected a file, found something else")
        if before and (before.st_ino, before.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            raise BadInputError(f"{self.path}: was replaced while it was read; repeat the command")
        self._status = status

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) with what lies ``offset`` bytes into the file."""
        descriptor = self._wake()
        while buffer:
            try:
                count = os.preadv(descriptor, [buffer], offset)
            except OSError as error:
                raise StorageError(f"{self.path}: cannot read: {error.strerror}") from error
            if count == 0:
                raise BadInputError(f"{self.path}: became shorter while it was read")
            buffer, offset = buffer[count:], offset + count

    def read(self, size: int, offset: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def rest(self) -> None:
        """Close the file until it is read again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()


def canonical_json(value: object) -> bytes:
    """Encode as sorted, compact UTF-8 JSON: equal values give equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` as sorted, indented JSON, atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises ``FileNotFoundError`` or ``NotADirectoryError`` when there is no such file,
    ``StorageError`` when it cannot be read, and ``ValueError`` when it holds anything but one
    JSON object.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {error.strerror}") from error
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
