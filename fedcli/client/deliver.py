"""Write a client's update and the files that belong to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fedcli.client.existing_update import ExistingUpdate, check_replaceable, find_existing
from fedcli.client.local_training import Trained
from fedcli.client.masked import MaskedUpdate
from fedcli.client.private import PrivateStep
from fedcli.client.session import Session
from fedcli.client.telemetry import telemetry
from fedcli.client.withheld import without_figures
from fedcli.errors import OvertakenError
from fedcli.formats.checkpoint import Checkpoint, prepare
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.telemetry import Telemetry
from fedcli.run.late_updates import is_late
from fedcli.security.signatures import sign_update, signature_fault
from fedcli.storage.commit import locked
from fedcli.training.loop import Epoch


@dataclass(frozen=True)
class ClientResult:
    """The result for one client; ``epochs`` is empty if its update existed already.

    ``late`` means that the round was complete already, and no global model uses the update.
    ``skipped`` are files that were left out because they cannot be decoded.
    """

    client: str
    already_done: bool
    path: Path
    sha256: str
    num_examples: int
    bytes: int
    seconds: float
    images_per_second: float | None
    epochs: tuple[Epoch, ...]
    late: bool
    skipped: tuple[str, ...] = ()


def existing_result(
    session: Session, metadata: Metadata, done: ExistingUpdate, examples: int
) -> ClientResult:
    """Return the result for a client whose update exists."""
    client = metadata.client or ""
    late = is_late(session.run, session.round, client, done.sha256)
    return ClientResult(
        client, True, done.path, done.sha256, examples, done.bytes, 0.0, None, (), late
    )


def deliver(
    session: Session,
    metadata: Metadata,
    trained: Trained,
    elapsed: float,
    *,
    examples: int,
    masked: MaskedUpdate | None,
    private: PrivateStep | None,
    again: bool,
    skipped: tuple[str, ...] = (),
) -> ClientResult:
    """Write the state, the telemetry and the signature, then the update, which is the delivery.

    With ``again`` it replaces an existing update. Otherwise an update that another process
    delivered meanwhile stays, and is the result if it was made from the same inputs. Of the
    ``skipped`` files only the number is sent: their names are the client's own. What a ``private``
    step spends is in the client's ledger before anything else is written.

    Raises ``ConflictError`` if it was not, and ``StorageError``. After an error the directory is
    unchanged, but for the ledger, from which nothing is ever removed.
    """
    client = metadata.client or ""
    measured = telemetry(session, client, examples, trained, elapsed)
    measured = replace(measured, skipped=len(skipped) or None)
    published = without_figures(measured) if session.withholds else measured
    note = partial(_write_beside, session, client, published, masked)
    try:
        sha256 = _write(session, metadata, trained, note, private, again=again)
    except OvertakenError:
        done = find_existing(session, metadata)
        if done is None or signature_fault(session.run, session.round, client, done.sha256):
            raise
        session.progress.say(f"client {client}: another process delivered it meanwhile")
        return existing_result(session, metadata, done, examples)
    path = session.round.update(client)
    return ClientResult(
        client=client,
        already_done=False,
        path=path,
        sha256=sha256,
        num_examples=examples,
        bytes=path.stat().st_size,
        seconds=elapsed,
        images_per_second=measured.images_per_second,
        epochs=tuple(trained.epochs),
        late=is_late(session.run, session.round, client, sha256),
        skipped=skipped,
    )


def _write_beside(
    session: Session,
    client: str,
    measured: Telemetry,
    masked: MaskedUpdate | None,
    sha256: str,
    size: int,
) -> None:
    """Write the telemetry, and the shares of a masked update of this SHA-256; sign the update."""
    round_ = session.round
    replace(measured, sha256=sha256, bytes=size).write(round_.telemetry(client))
    shares = None if masked is None else masked.write_shares(round_, sha256)
    if session.key is not None:
        sign_update(session.run, round_, client, sha256, session.key, shares)


def _write(
    session: Session,
    metadata: Metadata,
    trained: Trained,
    note: Callable[[str, int], None],
    private: PrivateStep | None,
    *,
    again: bool,
) -> str:
    """Write everything; return the update's SHA-256."""
    round_, client, states = session.round, metadata.client or "", session.states
    path = round_.update(client)
    if session.force:
        check_replaceable(round_, client)  # the round may have been completed meanwhile
    if again and path.exists() and round_.global_model.exists():
        # Only the state was lost. A global model was made from the existing update, so the update
        # stays and gets the new state, even if the number of threads differs.
        if private is not None:
            private.charge()
        with Checkpoint(path, Kind.UPDATE) as delivered:
            states.write(delivered.metadata, trained.kept)
            return delivered.digest()
    with prepare(path, trained.sent, metadata, replace=again) as update:

        def write() -> None:
            if session.keeps_state:
                states.write(metadata, trained.kept)
            else:
                states.remove(round_.number, client)
            note(update.sha256, update.size)

        update.flush()  # so that publishing is quick
        with locked(round_.path):  # else two writers could mix their files
            if session.force:
                check_replaceable(round_, client)
            if path.exists() and not again:
                raise OvertakenError("another process has just written it", path=path)
            if private is not None:
                private.charge()
            state = states.path(round_.number, client)
            beside = (round_.telemetry(client), round_.shares(client), round_.signature(client))
            companions = (state, *beside)
            update.commit(companions, write, replaces=again)
        return update.sha256
