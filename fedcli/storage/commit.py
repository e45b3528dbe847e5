"""Write files that belong together: those beside a marker, and then the marker, or none of them."""

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


def _second_name(path: Path) -> Path | None:
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
    """``write`` the files ``beside`` a marker that belong to it, then ``publish`` the marker.

    A marker that is there is taken away first where the new one ``replaces`` it, so that nobody
    finds it with what belongs to the new one. After an error all files are what they were before,
    unless the marker ``is_done``, in place all the same. Raises ``StorageError``, and what the
    functions raise.
    """
    with _put_back_on_failure((*beside, marker) if replaces else beside, is_done):
        if replaces:
            with storage_errors("replace", marker):
                marker.unlink(missing_ok=True)
        write()
        publish()


@contextlib.contextmanager
def _put_back_on_failure(paths: Sequence[Path], is_done: Callable[[], bool]) -> Iterator[None]:
    """Put files back as they are now, the last one last, when the block does not end well.

    Those that are not there now are removed then.
    """
    before: dict[Path, Path | None] = {}
    try:
        for path in paths:
            with storage_errors("write", path):
                before[path] = _second_name(path)
        yield
    except BaseException:
        if len(before) == len(paths) and not is_done():
            for path, second in before.items():
                _put_back(path, second)
        raise
    finally:
        for second in before.values():
            if second is not None:
                discard(second)


def _put_back(path: Path, second: Path | None) -> None:
    # Where not even this can be done, what is there is of a step that did not end: repeating it
    # replaces that, and says what is wrong as long as it is.
    with contextlib.suppress(OSError):
        if second is None:
            path.unlink(missing_ok=True)
        else:
            second.replace(path)


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
