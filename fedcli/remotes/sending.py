"""Send parcels to a remote: checked here, created there in order, never replaced."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from fedcli.errors import OvertakenError
from fedcli.remotes.comparing import Comparison
from fedcli.remotes.listings import Listings
from fedcli.remotes.parcels import Parcel
from fedcli.remotes.receipts import Receipts
from fedcli.remotes.remote import Remote
from fedcli.remotes.together import each_of
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run

_PARCELS_A_STREAM = 8  # checked before the first of them is sent, and noted after the last


class Sender:
    """Sends the files of a run to a remote. What is there already is compared, and not sent."""

    def __init__(self, run: Run, remote: Remote, receipts: Receipts, transfer: Transfer) -> None:
        self.listings = Listings(remote)
        self._run = run
        self._remote = remote
        self._receipts = receipts
        self._transfer = transfer
        self._comparison = Comparison(run, remote, receipts)

    def send(self, parcels: Iterable[Parcel]) -> None:
        """Send what is missing of parcels that do not refer to each other, several at a time.

        A marker goes when all else of its parcel is there. Raises ``ConflictError`` if another file
        is in the place of one, what a parcel's check raises for files that should not be sent, and
        ``StorageError``.
        """
        streams = self._remote.streams
        left, most = iter(parcels), 1 if streams == 1 else _PARCELS_A_STREAM * streams
        while batch := tuple(islice(left, most)):
            self._send_together(batch)

    def _send_together(self, parcels: Sequence[Parcel]) -> None:
        missing = self._missing([path for parcel in parcels for path in parcel.files])
        wanted = [parcel for parcel in parcels if missing.intersection(parcel.files)]
        if not wanted:
            return
        for parcel in wanted:
            parcel.check(self._run)
        first = [path for parcel in wanted for path in self._companions(parcel, missing)]
        last = [parcel.marker for parcel in wanted if parcel.marker in missing]
        sizes = [(self._run.root / path).stat().st_size for path in (*first, *last)]
        self._transfer.start(len(sizes), sum(sizes))
        for paths in (first, last):
            self._create(paths)
        self._note(missing)

    def _missing(self, paths: Sequence[str]) -> set[str]:
        """Return the files that are not there; raise ``ConflictError`` for other ones that are."""
        there = [path for path in paths if self.listings.entry(path) is not None]
        each_of(there, self.is_there, self._remote.streams, self._transfer)
        return set(paths).difference(there)

    def is_there(self, path: str) -> bool:
        """Return whether a file is there; raise ``ConflictError`` if it is another one."""
        entry = self.listings.entry(path)
        if entry is not None:
            self._comparison.check(path, entry)
        return entry is not None

    def _companions(self, parcel: Parcel, missing: set[str]) -> Iterator[str]:
        yield from (path for path in parcel.volatile if self._is_only_here(path))
        yield from (path for path in parcel.files[:-1] if path in missing)

    def _is_only_here(self, path: str) -> bool:
        return (self._run.root / path).exists() and self.listings.entry(path) is None

    def _create(self, paths: Sequence[str]) -> None:
        created = each_of(paths, self._try_create, self._remote.streams, self._transfer)
        for path, is_new in zip(paths, created, strict=True):
            if is_new:
                self._transfer.add(path)

    def _try_create(self, path: str) -> bool:
        """Create a file; return whether it is new. Raises ``ConflictError`` for another one."""
        try:
            self._remote.create(path, self._run.root / path, self._transfer.advance)
        except OvertakenError:  # another process has just sent it
            self.listings.forget()
            if not self.is_there(path):
                raise
            return False
        return True

    def _note(self, paths: Iterable[str]) -> None:
        self.listings.forget()
        for path in paths:
            if (entry := self.listings.entry(path)) is not None:
                self._receipts.note(path, entry)
