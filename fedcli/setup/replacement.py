"""Move a new run to its place, where an old one may be: afterwards there is one of them, whole."""

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from fedcli.errors import OvertakenError
from fedcli.run import Run
from fedcli.storage.atomic import publish_first
from fedcli.storage.commit import not_restored, restore
from fedcli.storage.temporaries import backup_of, remove_leftovers

_MARKER = Path("run.json")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def take_place(run: Run, root: Path, *, force: bool) -> None:
    """Move the files of a run to ``root``, ``run.json`` last: without it, there is no run.

    Removes the files of an unfinished run; with ``force``, of any run. Raises ``OvertakenError``
    and ``OSError``. With ``force``, the old run is then as it was, or a ``StorageError`` says where
    its files are.
    """
    if force:
        _replace(run, root)
    elif (root / _MARKER).exists():
        raise OvertakenError("another process has just written it", path=root / _MARKER)
    else:
        _move(run, root, force=False)


def _replace(run: Run, root: Path) -> None:
    aside = backup_of(root / _MARKER)
    before: dict[Path, Path | None] = {}
    lost: dict[Path, Path] = {}
    try:
        for path in _old_files(root, rounds=True):
            before[path] = _set_aside(path, aside / path.relative_to(root))
        for path in _new_files(run, root):
            before.setdefault(path, None)
        _move(run, root, force=True)
    except BaseException as error:
        lost = restore({path: before[path] for path in _marker_last(before, root)})
        if lost:
            raise not_restored(lost, error) from error
        raise
    finally:
        if not lost:
            shutil.rmtree(aside, ignore_errors=True)
    remove_leftovers(root)


def _marker_last(paths: dict[Path, Path | None], root: Path) -> list[Path]:
    return sorted(paths, key=lambda path: path == root / _MARKER)


def _set_aside(path: Path, backup: Path) -> Path:
    backup.parent.mkdir(parents=True, exist_ok=True)
    try:
        backup.hardlink_to(path)
    except OSError as error:
        if error.errno in _FULL:  # without space, removed folders cannot be created again
            raise
        path.replace(backup)  # a file system without hard links
    return backup


def _old_files(root: Path, *, rounds: bool) -> Iterator[Path]:
    """Yield marker, data and keys of an old or unfinished run, and with ``rounds`` its rounds."""
    data = root / "data"
    shards = data.glob("client-*.safetensors")
    of_copy = (root / "copy.json", root / "receipts.json")
    files = (root / _MARKER, *of_copy, *shards, data / "test.safetensors", data / "partition.json")
    for path in files:
        if path.is_file():
            yield path
    yield from (path for path in (root / "keys").rglob("*") if _is_of_keys(path))
    for folder in _rounds(root) if rounds else ():
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_of_keys(path: Path) -> bool:
    """Return whether a file is a simulated party's key, or a record beside it."""
    return path.is_file() and ".key" in (path.suffix, path.parent.stem[-4:])


def _rounds(root: Path) -> list[Path]:
    return [p for p in (root / "rounds").glob("*") if re.fullmatch(r"\d{4,}", p.name)]


def _new_files(run: Run, root: Path) -> list[Path]:
    return [root / path.relative_to(run.root) for path in run.root.rglob("*") if path.is_file()]


def _move(run: Run, root: Path, *, force: bool) -> None:
    files = _new_files(run, root)
    for path in files:  # on a full disk, this fails before anything is removed
        path.parent.mkdir(parents=True, exist_ok=True)
    files.remove(root / _MARKER)
    if force:
        (root / _MARKER).unlink(missing_ok=True)
    for path in [*_old_files(root, rounds=False), *(_entries(root) if force else ())]:
        if path not in files and path.name != _MARKER.name:
            path.unlink(missing_ok=True)
    for path in files:
        (run.root / path.relative_to(root)).replace(path)
    if force:
        (run.root / _MARKER).replace(root / _MARKER)
        _remove_empty_rounds(root)
    else:
        publish_first(run.root / _MARKER, root / _MARKER)


def _entries(root: Path) -> Iterator[Path]:
    """Yield everything in the rounds but folders; a link to a folder is not one."""
    for folder in _rounds(root):
        yield from (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _remove_empty_rounds(root: Path) -> None:
    for folder in _rounds(root):
        if all(path.is_dir() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
