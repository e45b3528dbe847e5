"""Ledgers of clients: what each has spent of the privacy of its data.

A budget belongs to data, so a client has one ledger for all of its runs that share a folder.
"""

from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.formats.ledger import Ledger, LedgerEntry
from fedcli.run.directory import Run
from fedcli.storage.atomic import flush_directory, storage_errors
from fedcli.storage.commit import locked


@dataclass(frozen=True)
class LedgerStore:
    """The location of ledgers; ``directory`` is None for the run itself."""

    run: Run
    directory: Path | None = None

    def path(self, client: str) -> Path:
        """Return the path of a client's ledger."""
        return (self.directory or self.run.root) / "privacy" / f"{client}.json"

    def read(self, client: str) -> Ledger:
        """Return a client's ledger; an empty one if it has spent nothing yet.

        Raises ``BadInputError`` for a file that cannot be used: nobody knows then what was spent.
        """
        try:
            return Ledger.read(self.path(client)) or Ledger()
        except BadInputError as error:
            hint = "put a copy back: without it nobody knows what this client has spent"
            raise error.amended(hint=hint, client=client) from None

    def add(self, client: str, entry: LedgerEntry) -> None:
        """Add an entry, which is on the disk afterwards; one that is there already changes nothing.

        Raises ``BadInputError`` as ``read``, and ``StorageError``.
        """
        path = self.path(client)
        if entry in self.read(client).entries:
            return
        if not path.parent.exists():
            with storage_errors("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                flush_directory(path.parent.parent)
        with locked(path.parent):  # else one of two writers could lose the entry of the other
            self.read(client).merged([entry]).write(path)

    def holders(self) -> list[str]:
        """Return the names of the clients that have a ledger here, in no order."""
        return [path.stem for path in (self.path("any").parent).glob("*.json")]
