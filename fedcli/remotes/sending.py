"""Send parcels to a remote: checked here, created there in order, never replaced."""

from fedcli.errors import OvertakenError
from fedcli.remotes.comparing import Comparison
from fedcli.remotes.listings import Listings
from fedcli.remotes.parcels import Parcel
from fedcli.remotes.receipts import Receipts
from fedcli.remotes.remote import Remote
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run


class Sender:
    """Sends the files of a run to a remote. What is there already is compared, and not sent."""

    def __init__(self, run: Run, remote: Remote, receipts: Receipts, transfer: Transfer) -> None:
        self.listings = Listings(remote)
        self._run = run
        self._remote = remote
        self._receipts = receipts
        self._transfer = transfer
        self._comparison = Comparison(run, remote, receipts)

    def send(self, parcel: Parcel) -> None:
        """Send what is missing of a parcel; the marker goes last.

        Raises ``ConflictError`` if another file is in the place of one, what the parcel's check
        raises for files that should not be sent, and ``StorageError``.
        """
        missing = [path for path in parcel.files if not self.is_there(path)]
        if not missing:
            return
        parcel.check(self._run)
        new = [path for path in parcel.volatile if self._is_only_here(path)]
        sizes = [(self._run.root / path).stat().st_size for path in (*new, *missing)]
        self._transfer.start(missing, sum(sizes))
        for path in (*new, *missing):
            self._create(path)
        self._note(missing)

    def is_there(self, path: str) -> bool:
        """Return whether a file is there; raise ``ConflictError`` if it is another one."""
        entry = self.listings.entry(path)
        if entry is not None:
            self._comparison.check(path, entry)
        return entry is not None

    def _is_only_here(self, path: str) -> bool:
        return (self._run.root / path).exists() and self.listings.entry(path) is None

    def _create(self, path: str) -> None:
        try:
            self._remote.create(path, self._run.root / path, self._transfer.advance)
            self._transfer.add(path)
        except OvertakenError:  # another process has just sent it
            self.listings.forget()
            if not self.is_there(path):
                raise

    def _note(self, paths: list[str]) -> None:
        self.listings.forget()
        for path in paths:
            if (entry := self.listings.entry(path)) is not None:
                self._receipts.note(path, entry)
