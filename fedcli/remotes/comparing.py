"""Whether a file at a remote is the one that is here."""

import hashlib

from fedcli.errors import ConflictError
from fedcli.remotes.receipts import Receipts
from fedcli.remotes.remote import NEVER_REPLACED, Entry, Remote, where
from fedcli.run import Run
from fedcli.storage.untrusted import InputFile

_OTHER_RUN = "another run is there, which stays: name another REMOTE"


class Comparison:
    """Compares the files of a run with those of a remote, and notes which are the same."""

    def __init__(self, run: Run, remote: Remote, receipts: Receipts) -> None:
        self._run = run
        self._remote = remote
        self._receipts = receipts

    def check(self, path: str, entry: Entry) -> None:
        """Raise ``ConflictError`` unless a file there has the bytes of the one here."""
        if self._receipts.vouch(path, entry):
            return
        here = self._run.root / path
        with InputFile(here) as file:
            if file.size != entry.size or file.digest() != self._digest(path, entry):
                raise ConflictError(
                    f"{where(self._remote, path)}: is another file than {here}",
                    hint=_OTHER_RUN if path == "run.json" else NEVER_REPLACED,
                )
        self._receipts.note(path, entry)

    def _digest(self, path: str, entry: Entry) -> str:
        found = hashlib.sha256()
        for piece in self._remote.pieces(path, entry):
            found.update(piece)
        return found.hexdigest()
