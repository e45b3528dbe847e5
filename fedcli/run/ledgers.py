"""Ledgers: what each client has spent of the privacy of its data, and what sums over clients have.

A budget belongs to data, so a client has one ledger for all of its runs that share a folder. What
sums over clients have spent stands in the manifests of the run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.formats.ledger import Ledger, LedgerEntry
from fedcli.formats.manifest import Manifest
from fedcli.privacy import PrivacyLimit
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

    def add(self, client: str, entry: LedgerEntry, limit: PrivacyLimit | None = None) -> None:
        """Add an entry, which is on the disk afterwards; one that is there already changes nothing.

        Raises ``BudgetError`` for one that would pass a limit, ``BadInputError`` as ``read``, and
        ``StorageError``.
        """
        path = self.path(client)
        if entry in self.read(client).entries:
            return
        if not path.parent.exists():
            with storage_errors("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                flush_directory(path.parent.parent)
        with locked(path.parent):  # else one of two writers could lose the entry of the other
            found = self.read(client)
            if limit is not None:
                limit.check(found, [entry], path=path, client=client)
            found.merged([entry]).write(path)

    def holders(self) -> list[str]:
        """Return the names of the clients that have a ledger here, in no order."""
        return [path.stem for path in (self.path("any").parent).glob("*.json")]


def spent_by_sums(run: Run) -> Ledger:
    """Return what sums over the clients of a run have spent, by its manifests.

    Raises ``BadInputError`` for a manifest that cannot be used.
    """
    found = Ledger()
    for round_ in run.rounds():
        try:
            manifest = Manifest.read(round_.manifest)
        except BadInputError as error:
            hint = "put a copy back: without it nobody knows what the round has spent"
            raise error.amended(hint=hint) from None
        found = found.merged(() if manifest is None else manifest.privacy)
    return found


def check_sums(run: Run, planned: Iterable[LedgerEntry], limit: PrivacyLimit | None) -> None:
    """Raise ``BudgetError`` if an aggregation that adds entries would pass a limit.

    One that its manifest lists already costs nothing, so a round may be aggregated again. Raises
    also what ``spent_by_sums`` and ``PrivacyLimit.check`` do.
    """
    if limit is not None:
        limit.check(spent_by_sums(run), planned, path=run.root)
