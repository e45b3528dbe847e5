"""Send what others need of a run: to a folder, a store, or one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import NotReadyError, UsageError
from fedcli.formats.remote_names import check_default_remote
from fedcli.progress import Progress, Silence
from fedcli.remotes.copying import read_copy
from fedcli.remotes.from_clients import own_parcels, was_cleared
from fedcli.remotes.opening import open_remote
from fedcli.remotes.parcels import Parcel
from fedcli.remotes.receipts import Receipts, receipts
from fedcli.remotes.remote import Remote
from fedcli.remotes.sending import Sender
from fedcli.remotes.to_clients import all_rounds, needed_by
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run


@dataclass(frozen=True)
class PushResult:
    """The result of ``push``.

    ``sent`` are the files that were sent, by their paths in the run, in order, ``bytes`` their
    size; empty and 0 if all were there. ``copy`` is whether this is a client's copy, which sends
    updates; otherwise it is the coordinator's directory, which sends rounds.
    """

    run: Path
    id: str
    remote: str
    copy: bool
    sent: tuple[str, ...]
    bytes: int
    already_done: bool


def push(
    run: Run,
    remote: str | None = None,
    *,
    clients: Sequence[str] = (),
    whole: bool = False,
    progress: Progress | None = None,
) -> PushResult:
    """Send finished files of a run to a remote, by default to that of the run.

    A client's copy sends its updates, and its answers in masked rounds. The coordinator's directory
    sends rounds: all of them to a folder; to one file, or with ``clients``, what these need for the
    next round, which is the newest model or, where these are fewer bytes and not ``whole``, the
    deltas to it. Each file is checked before it is sent, appears whole or not at all, and never
    replaces another.

    Raises ``UsageError``, ``NotReadyError`` if there is nothing to send, ``BadInputError`` for
    files that are not what their place says, ``ConflictError`` if another file is in the place of
    one, ``MissingDependencyError`` and ``StorageError``.
    """
    progress, name = progress or Silence(), remote_of(run, remote)
    mark = read_copy(run)
    chosen = chosen_clients(run, clients)
    if mark is not None and whole:
        raise UsageError("--whole: a client's copy sends no models", hint="leave --whole out")
    transfer = Transfer("sending", progress)
    with open_remote(name, run.root) as there, receipts(run, name) as noted:
        sender = Sender(run, there, noted, transfer)
        _check_run_there(run, there, sender, copy=mark is not None)
        if mark is not None:
            groups = _of_client(run, there, sender, noted, chosen or mark.clients)
        elif chosen or there.is_bundle:
            groups = [[parcel] for parcel in needed_by(run, chosen, whole=whole)]
        else:
            groups = [[parcel] for parcel in all_rounds(run, sender.listings)]
        for parcels in groups:
            sender.send(parcels)
    return PushResult(
        run=run.root,
        id=run.id,
        remote=name,
        copy=mark is not None,
        sent=tuple(transfer.files),
        bytes=transfer.bytes,
        already_done=not transfer.files,
    )


def chosen_clients(run: Run, clients: Sequence[str]) -> tuple[str, ...]:
    """Return clients that were named; none stand for all. Raises ``UsageError``."""
    return tuple(run.choose_clients(clients)) if clients else ()


def remote_of(run: Run, named: str | None) -> str:
    """Return a remote that was named, or that of the run.

    Raises ``UsageError`` without one, and for one that may not stand in a run.
    """
    if named is not None:
        return named
    if run.info.remote is None:
        raise UsageError(
            "REMOTE: this run names no remote: say a folder, a URL or a .zip file",
            hint="fedcli init --remote URL makes a run that names one",
        )
    return check_default_remote(run.info.remote, f"remote in {run.root / 'run.json'}")


def _check_run_there(run: Run, there: Remote, sender: Sender, *, copy: bool) -> None:
    """Raise ``NotReadyError`` if a client would send to a place where no run is.

    Raises ``ConflictError`` if another run is there.
    """
    if not sender.is_there("run.json") and copy and not there.is_bundle:
        raise NotReadyError(
            f"{there.name}: has no run.json",
            hint="check the name; the coordinator sends the run there first",
        )


def _of_client(
    run: Run, there: Remote, sender: Sender, noted: Receipts, clients: Sequence[str]
) -> list[list[Parcel]]:
    found = own_parcels(run, clients, newest_only=there.is_bundle)
    if not found:
        raise NotReadyError(
            f"{run.root}: there is no update to send",
            hint=run.command("train-client --id NAME --data PATH"),
        )
    return [
        [parcel for parcel in parcels if not was_cleared(parcel, sender.listings, noted)]
        for parcels in found
    ]
