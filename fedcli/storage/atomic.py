"""The one way a file comes to be: written aside, flushed to disk, renamed into place.

A reader sees the old file, the new one, or none; never half of one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
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
_PATIENCE = 10.0  # seconds
_PIECE = 2**20  # bytes copied at a time


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


def second_name(path: Path) -> Path | None:
    """Give a file a second name, under which it can be had back; None where there is no file.

    Without hard links it is a copy. Whoever asked removes it.
    """
    second = temporary(path.with_name(f"{path.name}.before"))
    try:
        second.hardlink_to(path)
    except FileNotFoundError:
        return None
    except OSError:
        if not path.exists():
            return None
        _copy(path, second)
    return second


def _copy(path: Path, to: Path) -> None:
    try:
        with InputFile(path) as source, FileIO(to, "xb", opener=_with_mode(0o666)) as target:
            for offset in range(0, source.size, _PIECE):
                piece = source.read(min(_PIECE, source.size - offset), offset)
                write_all(target, piece, offset)
    except BaseException:
        _discard(to)
        raise


@contextlib.contextmanager
def put_back_on_failure(*paths: Path, unless: Callable[[], bool]) -> Iterator[None]:
    """Put files back as they are now, the last one last, when the block does not end well.

    Those that are not there now are removed then. Nothing is done where ``unless`` says so: that
    what the block was for is there all the same. Raises ``StorageError``.
    """
    before: dict[Path, Path | None] = {}
    try:
        for path in paths:
            with storage_errors("write", path):
                before[path] = second_name(path)
        yield
    except BaseException:
        if len(before) == len(paths) and not unless():
            for path, second in before.items():
                _put_back(path, second)
        raise
    finally:
        for second in before.values():
            if second is not None:
                _discard(second)


def _put_back(path: Path, second: Path | None) -> None:
    # Where not even this can be done, what is there is of a step that did not end: repeating it
    # replaces that, and says what is wrong as long as it is.
    with contextlib.suppress(OSError):
        if second is None:
            path.unlink(missing_ok=True)
        else:
            second.replace(path)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Let one process at a time into the block, of those that ask for this directory.

    Nothing is left behind by one that is killed. Where the file system has no locks, and where
    whoever is in the block does not go on for ten seconds, nobody is kept out.
    """
    with storage_errors("read", directory):
        descriptor = os.open(directory, os.O_RDONLY)
    try:
        _lock(descriptor, time.monotonic() + _PATIENCE)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return


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


@contextlib.contextmanager
def atomic_writer(path: Path, mode: int = 0o666, *, replace: bool = True) -> Iterator[FileIO]:
    """Open a file that becomes ``path`` when the block ends well, and vanishes otherwise.

    The file is unbuffered, readable and writable, so that it can be filled out of order. It has
    ``mode`` from the start, less what the umask takes away. Without ``replace`` a file that is at
    ``path`` by the end stays, and ``OvertakenError`` is raised. Raises ``StorageError`` when the
    disk is full, the permission is missing, and the like.
    """
    aside = temporary(path)
    with storage_errors("write", path):
        file = _start(aside, mode)
        remove_leftovers(path.parent)
        try:
            with file:
                yield file
                os.fsync(file.fileno())
            if replace:
                aside.replace(path)
            else:
                publish_first(aside, path)
        except BaseException:
            _discard(aside)
            raise
        _flush_directory(path.parent)


def _start(path: Path, mode: int) -> FileIO:
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        # another process may remove a directory when the last file in it is gone
        with contextlib.suppress(FileNotFoundError):
            return FileIO(path, "x+b", opener=_with_mode(mode))
    return FileIO(path, "x+b", opener=_with_mode(mode))


def _with_mode(mode: int) -> Callable[[str, int], int]:
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
                f"{path}: another process has just written it", hint="repeat the command"
            ) from None
    except OSError as error:
        if path.exists():
            raise OvertakenError(
                f"{path}: another process has just written it", hint="repeat the command"
            ) from error
        aside.replace(path)
    else:
        _discard(aside)


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
