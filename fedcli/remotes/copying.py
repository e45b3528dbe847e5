"""A client's copy of a run: what marks a directory as one, and how it begins."""

from collections.abc import Sequence
from pathlib import Path

from fedcli.errors import BadInputError, NotReadyError, RunFormatError
from fedcli.formats.copies import CopyFile
from fedcli.remotes.listings import Listings
from fedcli.remotes.receipts import Receipts
from fedcli.remotes.remote import Remote, where, write_pieces
from fedcli.run import Run
from fedcli.storage.atomic import atomic_writer, place, storage_errors

_RUN = "run.json"
_MOST = 32_000_000  # bytes


def read_copy(run: Run) -> CopyFile | None:
    """Return what marks a client's copy; None in the directory where the run was made.

    Raises ``BadInputError`` for the mark of another run.
    """
    found = CopyFile.read(run.copy_file)
    if found is not None and found.run != run.id:
        raise BadInputError(
            f"belongs to run {found.run}, expected {run.id}",
            hint="pull into a directory of its own: fedcli pull REMOTE --run DIR",
            path=run.copy_file,
        )
    return found


def check_holds_run(remote: Remote, listings: Listings, known: Run | None) -> None:
    """Raise ``NotReadyError`` for a remote without a run, ``BadInputError`` for a foreign bundle.

    A bundle of updates needs no ``run.json`` if ``known`` is their run and not a copy.
    """
    if listings.entry(_RUN) is not None:
        return
    if remote.is_bundle and (remote.files("") or remote.folders("")):
        if known is not None and listings.rounds() and read_copy(known) is None:
            return
        raise BadInputError(
            f"{remote.name}: expected a bundle with {_RUN}, found none in it",
            hint="the coordinator makes one with: fedcli push FILE",
        )
    lacks = "is not there, or empty" if remote.is_bundle else f"has no {_RUN}"
    raise NotReadyError(
        f"{remote.name}: {lacks}",
        hint="check the name; the coordinator sends the run there: fedcli push REMOTE",
    )


def read_run_there(remote: Remote, listings: Listings, stage: Path) -> Run:
    """Return the run that a remote is of, opened in ``stage``; ``check_holds_run`` has passed.

    Raises ``RunFormatError`` for a run that cannot be read.
    """
    entry, name = listings.entry(_RUN), where(remote, _RUN)
    assert entry is not None
    if entry.size > _MOST:
        raise RunFormatError(f"{name}: has {entry.size} bytes, expected at most {_MOST}")
    with atomic_writer(stage / _RUN) as file:
        write_pieces(file, remote.pieces(_RUN, entry), lambda count: None)
    try:
        return Run.open(stage)
    except RunFormatError as error:
        raise RunFormatError(f"{name}: {error.about(stage / _RUN)}", hint=error.hint) from None


def check_same_run(
    run: Run, remote: Remote, listings: Listings, receipts: Receipts, stage: Path
) -> None:
    """Raise ``BadInputError`` if a remote has another run; a bundle of updates need not say."""
    entry = listings.entry(_RUN)
    if entry is None or receipts.vouch(_RUN, entry):
        return
    found = read_run_there(remote, listings, stage)
    if found.id != run.id:
        name = where(remote, _RUN)
        raise BadInputError(
            f"{name}: belongs to run {found.id}, expected {run.id}",
            hint=f"another run has a directory of its own: fedcli pull {remote.name} --run DIR",
        )
    if (stage / _RUN).read_bytes() == (run.root / _RUN).read_bytes():
        receipts.note(_RUN, entry)


def begin_copy(root: Path, there: Run, clients: Sequence[str]) -> Run:
    """Make a client's copy at ``root`` of a run that is opened aside; ``run.json`` comes last.

    Raises ``UsageError`` for clients that the run does not have, and ``OvertakenError`` if another
    process has made a run there meanwhile.
    """
    chosen = tuple(there.choose_clients(clients)) if clients else ()
    CopyFile(there.id, chosen).write(root / "copy.json")
    with storage_errors("write", root / _RUN):
        place(there.root / _RUN, root / _RUN)
    return Run.open(root)
