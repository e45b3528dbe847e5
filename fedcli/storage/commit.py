"""Write files that belong together: companions first, then the marker; or none of them."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from fedcli.storage.atomic import discard, storage_errors, with_mode, write_all
from fedcli.storage.temporaries import temporary
from fedcli.storage.untrusted import InputFile

_PATIENCE = 10.0  # seconds
_PIECE = 2**20  # bytes copied at a time


def _back_up(path: Path) -> Path | None:
    """Give a file a second name from which it can be restored; return None without a file.

    On file systems without hard links it is a copy. The caller removes it.
    """
    backup = temporary(path.with_name(f"{path.name}.before"))
    try:
        backup.hardlink_to(path)
    except FileNotFoundError:
        return None
    except OSError:
        if not path.exists():
            return None
        _copy(path, backup)
    return backup


def _copy(path: Path, to: Path) -> None:
    try:
        with InputFile(path) as source, FileIO(to, "xb", opener=with_mode(0o666)) as target:
            for offset in range(0, source.size, _PIECE):
                piece = source.read(min(_PIECE, source.size - offset), offset)
                write_all(target, piece, offset)
    except BaseException:
        discard(to)
        raise


def commit(
    marker: Path,
    beside: Sequence[Path],
    *,
    write: Callable[[], None],
    publish: Callable[[], None],
    is_done: Callable[[], bool],
    replaces: bool,
) -> None:
    """``write`` the files that belong to a marker, then ``publish`` the marker.

    If the marker ``replaces`` an old one, the old one is removed first, so that nobody finds it
    with files of the new one. After an error all files (``beside`` and the marker) are as before,
    unless the new marker is in place after all (``is_done``). Raises ``StorageError``, and what the
    functions raise.
    """
    with _restored_on_failure((*beside, marker) if replaces else beside, is_done):
        if replaces:
            with storage_errors("replace", marker):
                marker.unlink(missing_ok=True)
        write()
        publish()


@contextlib.contextmanager
def _restored_on_failure(paths: Sequence[Path], is_done: Callable[[], bool]) -> Iterator[None]:
    """Restore files to their present state, in order, if the block fails.

    Files that do not exist now are removed.
    """
    before: dict[Path, Path | None] = {}
    try:
        for path in paths:
            with storage_errors("write", path):
                before[path] = _back_up(path)
        yield
    except BaseException:
        if len(before) == len(paths) and not is_done():
            for path, backup in before.items():
                _restore(path, backup)
        raise
    finally:
        for backup in before.values():
            if backup is not None:
                discard(backup)


def _restore(path: Path, backup: Path | None) -> None:
    # If even this fails, the files of an unfinished step remain; repeating the step replaces them,
    # or reports the same error.
    with contextlib.suppress(OSError):
        if backup is None:
            path.unlink(missing_ok=True)
        else:
            backup.replace(path)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on a directory during the block.

    A killed process leaves nothing behind. The block is entered without the lock if the file system
    has no locks, or after ten seconds of waiting.
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
