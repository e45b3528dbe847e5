"""Write files that belong together: companions first, then the marker; or none of them."""

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path

from fedcli.errors import FedcliError, StorageError
from fedcli.storage.atomic import discard, storage_errors, with_mode, write_all
from fedcli.storage.temporaries import backup_of, remove_leftovers
from fedcli.storage.untrusted import InputFile
from fedcli.system import fcntl

_PATIENCE = 10.0  # seconds
_PIECE = 2**20  # bytes copied at a time


def _back_up(path: Path) -> Path | None:
    """Give a file a second name from which it can be restored; return None without a file.

    On file systems without hard links it is a copy. The caller removes it.
    """
    backup = backup_of(path)
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
    companions: Sequence[Path],
    *,
    write: Callable[[], None],
    publish: Callable[[], None],
    is_done: Callable[[], bool],
    replaces: bool,
) -> None:
    """``write`` the files that belong to a marker, then ``publish`` the marker.

    If the marker ``replaces`` an old one, the old one is removed first, so that nobody finds it
    with files of the new one. After an error, ``companions`` and marker are as before, unless the
    new marker is in place after all (``is_done``). Raises ``StorageError``, and what the functions
    raise.
    """
    with _restored_on_failure((*companions, marker) if replaces else companions, is_done):
        if replaces:
            with storage_errors("replace", marker):
                marker.unlink(missing_ok=True)
        write()
        publish()
    if replaces:
        for directory in {path.parent for path in (*companions, marker)}:
            remove_leftovers(directory)  # of one that was killed while the old marker was gone


@contextlib.contextmanager
def _restored_on_failure(paths: Sequence[Path], is_done: Callable[[], bool]) -> Iterator[None]:
    """Restore files to their present state, in order, if the block fails.

    Files that do not exist now are removed.
    """
    before: dict[Path, Path | None] = {}
    lost: dict[Path, Path] = {}
    try:
        for path in paths:
            with storage_errors("write", path):
                before[path] = _back_up(path)
        yield
    except BaseException as error:
        if len(before) == len(paths) and not is_done():
            lost = restore(before)
        if lost:
            raise not_restored(lost, error) from error
        raise
    finally:
        for path, backup in before.items():
            if backup is not None and path not in lost:
                discard(backup)


def restore(before: Mapping[Path, Path | None]) -> dict[Path, Path]:
    """Put files back from their backups, and remove those that had none, in order.

    Returns the backups of files that could not be put back: they are the only copies.
    """
    lost = {}
    for path, backup in before.items():
        if backup is None:
            # If even this fails, a file of an unfinished step remains; repeating the step
            # replaces it, or reports the same error.
            discard(path)
        elif not _put_back(path, backup):
            lost[path] = backup
    return lost


def _put_back(path: Path, backup: Path) -> bool:
    """Rename, link or copy a backup to where it was: a failing disk may still do one of them."""
    for way in (backup.replace, partial(_link, backup), partial(_copy_over, backup)):
        with contextlib.suppress(OSError, FedcliError):
            path.parent.mkdir(parents=True, exist_ok=True)
            way(path)
            return True
    return False


def _link(backup: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.hardlink_to(backup)


def _copy_over(backup: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    _copy(backup, path)


def not_restored(lost: Mapping[Path, Path], error: BaseException) -> StorageError:
    """Return the error of a step that failed, and whose old files are now in their backups."""
    path, backup = next(iter(lost.items()))
    cause = error.__cause__ if isinstance(error, StorageError) else error
    reason = getattr(cause, "strerror", None) or str(cause)
    more = f", and {len(lost) - 1} more likewise" if len(lost) > 1 else ""
    return StorageError(
        f"cannot write: {reason}; the old file could not be put back, and is {backup.name}{more}",
        hint=f"once the cause is removed: mv {shlex.quote(str(backup))} {shlex.quote(str(path))}",
        path=path,
    )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on a directory during the block.

    A killed process leaves nothing behind. The block is entered without the lock if the system or
    the file system has no locks, or after ten seconds of waiting.
    """
    if fcntl is None:
        yield
        return
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
