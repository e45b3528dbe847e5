"""Write what a client sends, and what belongs to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fedcli.client.existing_update import ExistingUpdate, check_replaceable, find_existing
from fedcli.client.local_training import Trained
from fedcli.client.session import Session
from fedcli.client.telemetry import telemetry
from fedcli.errors import OvertakenError
from fedcli.formats.checkpoint import Checkpoint, prepare
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.telemetry import Telemetry
from fedcli.run.late_updates import is_late
from fedcli.security.signatures import sign_update, signature_fault
from fedcli.storage.commit import alone_in
from fedcli.training.loop import Epoch


@dataclass(frozen=True)
class ClientResult:
    """What became of one client; ``epochs`` is empty when its update was there already.

    ``late`` says that the round was complete by then, and that no global model was made from it.
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


def existing_result(session: Session, metadata: Metadata, done: ExistingUpdate) -> ClientResult:
    """Return the result of a client whose update is there."""
    client, examples = metadata.client or "", metadata.num_examples or 0
    late = is_late(session.run, session.round, client, done.sha256)
    return ClientResult(
        client, True, done.path, done.sha256, examples, done.bytes, 0.0, None, (), late
    )


def deliver(
    session: Session, metadata: Metadata, trained: Trained, elapsed: float, *, again: bool
) -> ClientResult:
    """Write the state, the telemetry, the signature, and then the update, which is the delivery.

    With ``again`` it takes the place of an update that is there. Otherwise one that another process
    has delivered meanwhile stays; it counts as this one where it was made from the same inputs.

    Raises ``ConflictError`` where it was not, and ``StorageError``. After an error the directory
    holds what it held before.
    """
    client = metadata.client or ""
    roles = dict.fromkeys(trained.sent.keys() - session.base.keys(), Role.CONTROL)
    metadata = replace(metadata, roles={**metadata.roles, **roles})
    examples = metadata.num_examples or 0
    told = telemetry(session, client, examples, trained, elapsed)
    note = partial(_tell, session, client, told)
    try:
        sha256 = _write(session, metadata, trained, note, again=again)
    except OvertakenError:
        done = find_existing(session, metadata)
        if done is None or signature_fault(session.run, session.round, client, done.sha256):
            raise
        session.progress.say(f"client {client}: another process has delivered it meanwhile")
        return existing_result(session, metadata, done)
    path = session.round.update(client)
    return ClientResult(
        client=client,
        already_done=False,
        path=path,
        sha256=sha256,
        num_examples=examples,
        bytes=path.stat().st_size,
        seconds=elapsed,
        images_per_second=told.images_per_second,
        epochs=tuple(trained.epochs),
        late=is_late(session.run, session.round, client, sha256),
    )


def _tell(session: Session, client: str, told: Telemetry, sha256: str, size: int) -> None:
    """Write how the training went, and sign an update of this SHA-256 where the run has members."""
    round_ = session.round
    replace(told, sha256=sha256, bytes=size).write(round_.telemetry(client))
    if session.key is not None:
        sign_update(session.run, round_, client, sha256, session.key)


def _write(
    session: Session,
    metadata: Metadata,
    trained: Trained,
    note: Callable[[str, int], None],
    *,
    again: bool,
) -> str:
    """Write everything; return the update's SHA-256."""
    round_, client, states = session.round, metadata.client or "", session.states
    path = round_.update(client)
    if session.force:
        check_replaceable(round_, client)  # the round may have become complete meanwhile
    if again and path.exists() and round_.global_model.exists():
        # Only the state was lost: a global model was made from this update, which the new state
        # goes with, be it made with another number of threads.
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

        update.flush()  # publishing it takes no time then
        with alone_in(round_.path):  # else what belongs to one update could lie beside another
            if session.force:
                check_replaceable(round_, client)
            if path.exists() and not again:
                raise OvertakenError("another process has just written it", path=path)
            state = states.path(round_.number, client)
            beside = (state, round_.telemetry(client), round_.signature(client))
            update.commit(beside, write, replaces=again)
        return update.sha256
