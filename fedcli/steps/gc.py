"""Remove updates and states of old rounds that no later step reads."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import StorageError, UsageError
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.retention import FileKind, OldFile, OldFiles, old_files


@dataclass(frozen=True)
class Removed:
    """The number and total size in bytes of the removed files of one kind."""

    what: str
    files: int
    bytes: int


@dataclass(frozen=True)
class KeptFile:
    """A file of an old round that was kept, relative to the run, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class GcResult:
    """What ``gc`` removed, or would remove; ``rounds`` are the rounds of these files."""

    run: Path
    keep_last: int
    dry_run: bool
    rounds: tuple[int, ...]
    files: int
    bytes: int
    removed: tuple[Removed, ...]
    kept: tuple[KeptFile, ...]


def gc(
    run: Run, keep_last: int, *, dry_run: bool = False, progress: Progress | None = None
) -> GcResult:
    """Remove unneeded files of rounds before the last ``keep_last`` complete ones.

    Those are updates, client and server states, and training checkpoints. Global models, manifests,
    scores, data and the open round are never touched, nor are files that a later step still reads:
    see ``fedcli.run.retention``. ``dry_run`` removes nothing. The step may be interrupted,
    repeated, and run twice at once.

    Raises ``UsageError`` for less than one round, and ``StorageError``.
    """
    if keep_last < 1:
        raise UsageError(f"--keep-last: expected 1 or more, found {keep_last}")
    progress = progress or Silence()
    found = old_files(run, keep_last)
    progress.start("removing", len(found.removable))
    sizes = {}
    for file in found.removable:
        size = _size(file.path) if dry_run else _remove(file.path)
        progress.advance()
        if size is not None:
            sizes[file] = size
    return _result(run, keep_last, dry_run, sizes, found)


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it is gone."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _remove(path: Path) -> int | None:
    """Remove a file and return its size; None if another process was faster."""
    try:
        size = _size(path)
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"cannot remove: {error.strerror}",
            hint="repeat the command once the cause is removed; only old files were removed",
            path=path,
        ) from error
    return size


def _result(
    run: Run, keep_last: int, dry_run: bool, sizes: Mapping[OldFile, int], found: OldFiles
) -> GcResult:
    files = Counter(file.sort for file in sizes)
    total = Counter[FileKind]()
    for file, size in sizes.items():
        total[file.sort] += size
    return GcResult(
        run=run.root,
        keep_last=keep_last,
        dry_run=dry_run,
        rounds=tuple(sorted({file.round for file in sizes})),
        files=files.total(),
        bytes=total.total(),
        removed=tuple(
            Removed(sort.value, files[sort], total[sort]) for sort in FileKind if files[sort]
        ),
        kept=tuple(
            KeptFile(file.path.relative_to(run.root).as_posix(), reason.value)
            for file, reason in found.kept.items()
        ),
    )
