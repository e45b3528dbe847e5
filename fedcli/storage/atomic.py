"""Write a temporary file, flush it to the disk, and rename it into place.

Readers see the old file, the new one, or none, but never half of one.
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

from fedcli.errors import BadInputError, NotReadyError, OvertakenError, StorageError
from fedcli.storage.indented_json import indented_json
from fedcli.storage.strict_json import parse_json
from fedcli.storage.temporaries import remove_leftovers, temporary
from fedcli.storage.untrusted import InputFile
from fedcli.system import read_at, write_at

_MOST_JSON = 32_000_000  # bytes; a confusion matrix of 1000 classes has 13 million

_TRIES = 100


@contextlib.contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that names the action and the file."""
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
def temporary_directory(parent: Path, name: str) -> Iterator[Path]:
    """Provide a temporary directory in ``parent`` to build files in, to be renamed into place.

    It is removed when the block ends, with whatever is left in it. Raises ``StorageError``.
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
    """A temporary file that appears at ``path`` when it is published.

    ``file`` is unbuffered, readable and writable, so that it can be filled out of order.
    """

    def __init__(
        self, path: Path, aside: Path, file: FileIO, *, replace: bool, lasts: bool = True
    ) -> None:
        self.path = path
        self.file = file
        self.published = False
        self._aside = aside
        self._replace = replace
        self._lasts = lasts

    def publish(self) -> None:
        """Flush the file to the disk and rename it into place. Raises what ``draft`` does."""
        with storage_errors("write", self.path):
            if self._lasts:
                os.fsync(self.file.fileno())
            self.file.close()
            if self._replace:
                self._aside.replace(self.path)
            else:
                publish_first(self._aside, self.path)
            self.published = True
            if self._lasts:
                flush_directory(self.path.parent)


@contextlib.contextmanager
def draft(
    path: Path, mode: int = 0o666, *, replace: bool = True, lasts: bool = True
) -> Iterator[Draft]:
    """Start a file that is to become ``path``; unless it is published, remove it.

    It has ``mode``, less the umask, from the start. Unless it ``lasts``, nobody waits for the disk,
    and it may be lost or empty after a power failure. Raises ``OvertakenError`` on publishing if
    ``path`` exists, which then stays, unless ``replace``; and ``StorageError`` when the disk is
    full, permission is missing, and the like.
    """
    aside = temporary(path)
    with storage_errors("write", path):
        file = _start(aside, mode)
        remove_leftovers(path.parent)
        started = Draft(path, aside, file, replace=replace, lasts=lasts)
        try:
            with file:
                yield started
        finally:
            if not started.published:
                discard(aside)


@contextlib.contextmanager
def atomic_writer(
    path: Path, mode: int = 0o666, *, replace: bool = True, lasts: bool = True
) -> Iterator[FileIO]:
    """Open a file that becomes ``path`` when the block succeeds; arguments as in ``draft``."""
    with draft(path, mode, replace=replace, lasts=lasts) as started:
        yield started.file
        started.publish()


def _start(path: Path, mode: int) -> FileIO:
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        # another process may remove the directory after deleting the last file in it
        with contextlib.suppress(FileNotFoundError):
            return FileIO(path, "x+b", opener=with_mode(mode))
    return FileIO(path, "x+b", opener=with_mode(mode))


def with_mode(mode: int) -> Callable[[str, int], int]:
    """Return an opener that creates files with a mode, less the umask."""
    return partial(os.open, mode=mode)


def publish_first(aside: Path, path: Path) -> None:
    """Rename a file to a free name; raise ``OvertakenError`` if the name is taken.

    On file systems without hard links, two processes may both succeed; one of their files stays.
    """
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        if not path.samefile(aside):  # NFS may answer a request that was sent twice
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


def place(aside: Path, path: Path) -> None:
    """Move a finished file to a free name in another folder of its disk, flushed.

    Raises what ``publish_first`` does, and ``OSError``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_first(aside, path)
    flush_directory(path.parent)


def discard(path: Path) -> None:
    """Remove a file if possible."""
    with contextlib.suppress(OSError):
        path.unlink()


def flush_directory(path: Path) -> None:
    """Make the names in a directory last, where the file system can."""
    # The file is in place by now, and some network file systems cannot flush a directory: an error
    # here would wrongly say that nothing was written.
    with contextlib.suppress(OSError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_all(file: FileIO, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; a single call may write only a part."""
    view = memoryview(data).cast("B")
    while view:
        written = write_at(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def read_all(file: FileIO, buffer: memoryview, offset: int) -> None:
    """Fill ``buffer`` from ``offset`` on. Raises ``OSError`` if the file is too short."""
    while buffer:
        count = read_at(file.fileno(), buffer, offset)
        if count == 0:
            raise OSError(f"ends at byte {offset}")
        buffer, offset = buffer[count:], offset + count


def write_bytes(
    path: Path, data: bytes, mode: int = 0o666, *, replace: bool = True, lasts: bool = True
) -> None:
    """Write ``data`` to ``path`` atomically; arguments as in ``draft``."""
    with atomic_writer(path, mode, replace=replace, lasts=lasts) as file:
        write_all(file, data, 0)


def canonical_json(value: object) -> bytes:
    """Encode as sorted, compact UTF-8 JSON: equal values give equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def write_json(
    path: Path, value: object, *, replace: bool = True, lasts: bool = True, room: int = 1
) -> None:
    """Write ``value`` to ``path`` as sorted, indented JSON, atomically; see ``draft``.

    ``room`` is as in ``read_json``. Raises ``StorageError``, and ``BadInputError`` for what
    ``read_json`` would refuse.
    """
    try:
        data = indented_json(value)
        del value  # which takes more memory than its text
        _parsed_object(data, room)
    except ValueError as error:
        raise BadInputError(
            f"was not written, because no fedcli could read it: {error}", path=path
        ) from None
    write_bytes(path, data, replace=replace, lasts=lasts)


def read_json(path: Path, room: int = 1) -> dict[str, Any]:
    """Read one JSON object of at most 32 MB; see ``strict_json`` for what it refuses.

    A file with an entry for each client may have ``room`` times the size, and take as much memory.
    Raises ``FileNotFoundError`` when the file does not exist, ``StorageError`` when it cannot be
    read, ``BadInputError`` when it is a link, not a regular file, or changes meanwhile, and
    ``ValueError`` when it holds anything but one JSON object.
    """
    try:
        with InputFile(path) as file:
            _check_length(file.size, room)
            data = file.read(file.size, 0)
            file.check_unchanged()
    except NotReadyError as error:
        raise FileNotFoundError(error.message) from None
    return _parsed_object(data, room)


def _check_length(size: int, room: int) -> None:
    if size > room * _MOST_JSON:
        raise ValueError(f"{size} bytes, expected at most {room * _MOST_JSON}")


def _parsed_object(data: bytes, room: int) -> dict[str, Any]:
    _check_length(len(data), room)
    value = parse_json(data, room)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
