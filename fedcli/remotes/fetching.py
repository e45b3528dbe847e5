"""Fetch parcels from a remote: into a folder aside, checked there, then placed in order."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fedcli.errors import (
    BadInputError,
    ConflictError,
    FedcliError,
    NotReadyError,
    OvertakenError,
    StorageError,
)
from fedcli.formats.checkpoint import digest
from fedcli.masking.rounds import MOST_UNREAD
from fedcli.remotes.comparing import Comparison
from fedcli.remotes.listings import Listings
from fedcli.remotes.parcels import Parcel
from fedcli.remotes.receipts import Receipts
from fedcli.remotes.remote import NEVER_REPLACED, Remote, where, write_pieces
from fedcli.remotes.together import each_of
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run
from fedcli.storage.atomic import atomic_writer, discard, place, storage_errors, write_bytes
from fedcli.storage.untrusted import InputFile

_PARCELS_A_STREAM = 8  # aside at a time: what is aside takes space, and is lost with the process
_SEND_AGAIN = "ask who sent it to repeat fedcli push, which compares it with theirs"


class Fetcher:
    """Fetches files of a remote into a run. Nothing is placed before it is checked.

    ``staged`` is the run as it would be with what was fetched, in a folder of its own.
    """

    def __init__(
        self,
        run: Run,
        stage: Path,
        remote: Remote,
        listings: Listings,
        receipts: Receipts,
        transfer: Transfer,
    ) -> None:
        self.listings = listings
        self.staged = replace(run, root=stage)
        self._run = run
        self._remote = remote
        self._receipts = receipts
        self._transfer = transfer
        self._comparison = Comparison(run, remote, receipts)

    def ahead(self, parcels: Iterable[Parcel]) -> Iterator[Parcel]:
        """Yield parcels in their order, to be fetched; their files come aside several at a time.

        What cannot be read is left to ``fetch``, which says so.
        """
        left = iter(parcels)
        streams = self._remote.streams
        while batch := tuple(islice(left, _PARCELS_A_STREAM * streams)):
            if streams > 1:
                self._stage_together([each for each in batch if not self._is_here(each)])
            yield from batch

    def _stage_together(self, parcels: Sequence[Parcel]) -> None:
        files = [(parcel, path) for parcel in parcels for path in self._unfetched(parcel)]
        if not files:
            return
        self._announce(path for _, path in files)
        each_of(files, self._try_stage, self._remote.streams, self._transfer)

    def _try_stage(self, file: tuple[Parcel, str]) -> None:
        parcel, path = file
        with suppress(FedcliError):
            self.stage(path, parcel.largest(path))

    def _unfetched(self, parcel: Parcel) -> list[str]:
        paths = (*parcel.volatile, *parcel.witnesses, *parcel.files)
        return [path for path in paths if not (self.staged.root / path).exists()]

    def _announce(self, paths: Iterable[str]) -> None:
        entries = (self.listings.entry(path) for path in paths)
        sizes = [entry.size for entry in entries if entry is not None]
        self._transfer.start(len(sizes), sum(sizes))

    def _is_here(self, parcel: Parcel) -> bool:
        return all((self._run.root / path).exists() for path in parcel.files)

    def fetch(self, parcel: Parcel) -> None:
        """Fetch a parcel whose marker is there, unless all of it is here.

        Raises ``ConflictError`` if another file is here, ``NotReadyError`` if a file that belongs
        to the marker is not there yet, ``BadInputError`` for files that are not what their place
        says and for a bundle that lacks one, and ``StorageError``.
        """
        if self.listings.entry(parcel.marker) is None:
            return
        if self._is_here(parcel):
            self._compare(parcel)
            return
        self._download(parcel)
        with self.blaming_remote():
            parcel.check(self.staged)
        for path in (*parcel.volatile, *parcel.files):
            if (self.staged.root / path).exists():
                self._place(path, volatile=path in parcel.volatile)

    def stage(self, path: str, most: int | None) -> bool:
        """Fetch one file of at most ``most`` bytes aside; return whether it is there."""
        entry = self.listings.entry(path)
        if entry is None:
            return False
        if most is not None and entry.size > most:
            raise BadInputError(
                f"{where(self._remote, path)}: has {entry.size} bytes, expected at most {most}; it"
                " was not read"
            )
        if (self.staged.root / path).exists():
            return True
        with self.blaming_remote(), atomic_writer(self.staged.root / path) as file:
            write_pieces(file, self._remote.pieces(path, entry), self._transfer.advance)
        return True

    @contextmanager
    def blaming_remote(self) -> Iterator[None]:
        """Name the file at the remote in errors of its copy aside, whose name nobody knows.

        What could not be written is a file of this run.
        """
        try:
            yield
        except FedcliError as error:
            aside, is_ours = f"{self.staged.root}", isinstance(error, StorageError)
            if aside not in f"{error.message} {error.hint}":
                raise
            name = str(self._run.root) if is_ours else self._remote.name.rstrip("/")
            hint = _SEND_AGAIN if error.hint is None else error.hint.replace(aside, name)
            reason = error.message.replace(aside, name)
            raise type(error)(reason, hint=hint, client=error.client) from None

    def _compare(self, parcel: Parcel) -> None:
        for path in parcel.files:
            if (entry := self.listings.entry(path)) is not None:
                self._comparison.check(path, entry)

    def _download(self, parcel: Parcel) -> None:
        for path in parcel.witnesses:
            self._borrow(path)
        if left := self._unfetched(parcel):
            self._announce(left)
        for path in (*parcel.volatile, *parcel.witnesses, *parcel.files):
            if not self.stage(path, parcel.largest(path)) and path in parcel.files:
                raise self._incomplete(path, parcel.marker)

    def _incomplete(self, path: str, marker: str) -> FedcliError:
        message = f"{where(self._remote, path)}: is not there, but {marker} is, and needs it"
        if self._remote.is_bundle:
            return BadInputError(message, hint="ask who made the bundle to repeat fedcli push")
        return NotReadyError(message, hint="wait until it has arrived there, and repeat")

    def _borrow(self, path: str) -> None:
        """Copy a small file that is here aside: the check trusts it more than one from there."""
        here, aside = self._run.root / path, self.staged.root / path
        if here.exists() and not aside.exists():
            with InputFile(here) as file:
                file.check_size(MOST_UNREAD)
                write_bytes(aside, file.read(file.size, 0))

    def _place(self, path: str, *, volatile: bool) -> None:
        aside, here = self.staged.root / path, self._run.root / path
        try:
            if here.exists():
                raise OvertakenError("is here", path=here)
            with storage_errors("write", here):
                place(aside, here)
            self._transfer.add(path)
        except OvertakenError:
            if not volatile and digest(here) != digest(aside):
                raise ConflictError(
                    f"is another file than {where(self._remote, path)}",
                    hint=NEVER_REPLACED,
                    path=here,
                ) from None
            discard(aside)
        if not volatile and (entry := self.listings.entry(path)) is not None:
            self._receipts.note(path, entry)
