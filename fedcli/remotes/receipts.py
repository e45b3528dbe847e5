"""What was the same at a remote and here, so that no file is read twice to compare it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedcli.errors import StorageError
from fedcli.formats.copies import Receipt, ReceiptsFile
from fedcli.remotes.remote import Entry
from fedcli.run import Run

_MOST = 20_000  # receipts of a remote, those of the newest rounds: 4 MB of JSON


class Receipts:
    """The receipts of one remote.

    They save time and decide nothing alone: where the state of either file differs from the one
    that was noted, both are read.
    """

    def __init__(self, run: Run, noted: dict[str, Receipt]) -> None:
        self._run = run
        self._noted = noted
        self.changed = False

    def has(self, path: str) -> bool:
        """Return whether a file was ever the same there and here."""
        return path in self._noted

    def vouch(self, path: str, entry: Entry) -> bool:
        """Return whether a file there and the one here are still those that were the same."""
        here = _state(self._run.root / path)
        return (
            here is not None
            and entry.stamp is not None
            and self._noted.get(path) == Receipt(here, entry.stamp)
        )

    def note(self, path: str, entry: Entry) -> None:
        """Note that a file there is the same as the one here."""
        here = _state(self._run.root / path)
        if here is not None and entry.stamp is not None:
            self.changed |= self._noted.get(path) != Receipt(here, entry.stamp)
            self._noted[path] = Receipt(here, entry.stamp)


@contextmanager
def receipts(run: Run, remote: str) -> Iterator[Receipts]:
    """Provide the receipts of a remote; new ones are written also if the block fails,
    if they can be.

    A file of receipts that is broken, or of another run, counts as none.
    """
    found = ReceiptsFile.try_read(run.receipts_file)
    if found is None or found.run != run.id:
        found = ReceiptsFile(run.id)
    noted = dict(found.remotes.get(remote, {}))
    taken = Receipts(run, noted)
    try:
        yield taken
    finally:
        if taken.changed:
            kept = {path: noted[path] for path in sorted(noted, reverse=True)[:_MOST]}
            with suppress(StorageError):  # all is done, and only takes longer the next time
                ReceiptsFile(run.id, {**found.remotes, remote: kept}).write(run.receipts_file)


def _state(path: Path) -> str | None:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
