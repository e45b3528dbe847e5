"""Write a file aside, flush it to the disk, and rename it into place.

A reader sees the old file, the new one, or none; never half of one.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from fedcli.errors import NotReadyError, OvertakenError, StorageError
from fedcli.storage.strict_json import parse_json
from fedcli.storage.temporaries import remove_leftovers, temporary
from fedcli.storage.untrusted import InputFile

_MOST_JSON = 32_000_000  # bytes; a confusion matrix of 1000 classes has 13 million

_TRIES = 100


@contextlib.contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that says what was done to which file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot {action}: {reason}",
            hint="nothing was changed; repeat the command once the cause is removed",
            path=path,
        ) from error


@contextlib.contextmanager
def directory_aside(parent: Path, name: str) -> Iterator[Path]:
    """Give a directory in ``parent`` to build files in that are then renamed into place.

    What is left in it when the block ends, well or not, is removed. Raises ``StorageError``.
    """
    aside = temporary(parent / name)
    with storage_errors("write", parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class Draft:
    """A file that is written aside, and appears at ``path`` when it is published.

    ``file`` is unbuffered, readable and writable, so that it can be filled out of order.
    """

    def __init__(self, path: Path, aside: Path, file: FileIO, *, replace: bool) -> None:
        self.path = path
        self.file = file
        self.published = False
        self._aside = aside
        self._replace = replace

    def publish(self) -> None:
        """Flush it to the disk and rename it into place. Raises as ``draft`` says."""
        with storage_errors("write", self.path):
            os.fsync(self.file.fileno())
            self.file.close()
            if self._replace:
                self._aside.replace(self.path)
            else:
                publish_first(self._aside, self.path)
            self.published = True
            _flush_directory(self.path.parent)


@contextlib.contextmanager
def draft(path: Path, mode: int = 0o666, *, replace: bool = True) -> Iterator[Draft]:
    """Start a file that is to become ``path``; one that is not published vanishes.

    It has ``mode`` from the start, less what the umask takes away. Without ``replace`` a file that
    is at ``path`` when it is published stays, and ``OvertakenError`` is raised. Raises
    ``StorageError`` when the disk is full, the permission is missing, and the like.
    """
    aside = temporary(path)
    with storage_errors("write", path):
        file = _start(aside, mode)
        remove_leftovers(path.parent)
        started = Draft(path, aside, file, replace=replace)
        try:
            with file:
                yield started
        finally:
            if not started.published:
                discard(aside)


@contextlib.contextmanager
def atomic_writer(path: Path, mode: int = 0o666, *, replace: bool = True) -> Iterator[FileIO]:
    """Open a file that becomes ``path`` when the block ends well. Takes what ``draft`` takes."""
    with draft(path, mode, replace=replace) as started:
        yield started.file
        started.publish()


def _start(path: Path, mode: int) -> FileIO:
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        # another process may remove a directory when the last file in it is gone
        with contextlib.suppress(FileNotFoundError):
            return FileIO(path, "x+b", opener=with_mode(mode))
    return FileIO(path, "x+b", opener=with_mode(mode))


def with_mode(mode: int) -> Callable[[str, int], int]:
    """Return what opens a file with a mode, less what the umask takes away."""
    return partial(os.open, mode=mode)


def publish_first(aside: Path, path: Path) -> None:
    """Rename a file to a name that nobody has taken; else raise ``OvertakenError``.

    Without hard links two processes can both come to think that they were first; the file is then
    that of either of them.
    """
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        if not path.samefile(aside):  # NFS: the answer to a request that was sent twice
            raise OvertakenError(
                "another process has just written it", hint="repeat the command", path=path
            ) from None
    except OSError as error:
        if path.exists():
            raise OvertakenError(
                "another process has just written it", hint="repeat the command", path=path
            ) from error
        aside.replace(path)
    else:
        discard(aside)


def discard(path: Path) -> None:
    """Remove a file, where that can be done."""
    with contextlib.suppress(OSError):
        path.unlink()


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


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write ``data`` to ``path`` atomically, with a mode as ``atomic_writer`` takes it."""
    with atomic_writer(path, mode) as file:
        write_all(file, data, 0)


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
    """Read one JSON object of at most 32 MB; see ``strict_json`` for what is refused.

    Raises ``FileNotFoundError`` when there is no such file, ``StorageError`` when it cannot be
    read, ``BadInputError`` when it is no file, or a link, or is being changed, and ``ValueError``
    when it holds anything but one JSON object.
    """
    try:
        with InputFile(path) as file:
            if file.size > _MOST_JSON:
                raise ValueError(f"{file.size} bytes, expected at most {_MOST_JSON}")
            data = file.read(file.size, 0)
            file.check_unchanged()
    except NotReadyError as error:
        raise FileNotFoundError(error.message) from None
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
