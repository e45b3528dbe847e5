"""Train one client on its data for a round, and write its update."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from fedcli.client.data import ClientData, open_data
from fedcli.client.deliver import ClientResult, deliver, existing_result
from fedcli.client.description import update_metadata
from fedcli.client.encoding import encoded
from fedcli.client.existing_update import (
    ExistingUpdate,
    check_not_used,
    check_replaceable,
    find_existing,
    why_unfinished,
)
from fedcli.client.keyed_digest import keyed_digest
from fedcli.client.local_training import Assignment, Trained, train_locally
from fedcli.client.masked import MaskedUpdate, Masking
from fedcli.client.private import PrivateStep, private_step
from fedcli.client.resume import Resume, TrainingCheckpoint, seconds_before
from fedcli.client.session import Session
from fedcli.client.starting_state import StartingState, starting_state
from fedcli.client.training_progress import observer_of, say_shrink
from fedcli.formats.metadata import Metadata, Role
from fedcli.models import build, takes_rgb
from fedcli.models.ties import check_ties
from fedcli.models.weights import load_arrays
from fedcli.options import Given
from fedcli.plan.private_events import privacy_limit, with_noise
from fedcli.randomness import stream_seed
from fedcli.run.heartbeat import FIRST, HeartbeatWriter
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import out_of_memory_as_error, reset_peak_memory
from fedcli.training.loop import Observer


@dataclass(frozen=True)
class ClientTraining:
    """The training of one client in a round: its examples, its state, and what describes it.

    ``session`` is that of all clients, with the noise that this one needs. ``metadata`` describes
    the inputs of the update, and ``interrupted`` is where its training is kept meanwhile.
    """

    session: Session
    client: str
    examples: ClientData
    start: StartingState
    metadata: Metadata
    masking: Masking | None
    private: PrivateStep | None
    interrupted: TrainingCheckpoint


def train_one(session: Session, client: str, data: str | None, reading: Given) -> ClientResult:
    """Train a client, or find that its update exists; arguments and errors as ``train_client``."""
    own = _prepare(session, client, data, reading)
    done = None
    if session.force:
        check_replaceable(session.round, client)
    elif done := find_existing(own.session, own.metadata, own.examples.fingerprint):
        fault = why_unfinished(own.session, client, done)
        if fault is None:
            return _already_trained(own, done)
        session.progress.say(f"client {client}: {fault}; training again")
    _check_may_train(own, done)
    update = _make_update(own)
    result = deliver(
        own.session,
        update.metadata,
        update.trained,
        update.seconds,
        examples=own.examples.count,
        masked=update.masked,
        private=own.private,
        again=session.force or done is not None,
        skipped=own.examples.skipped,
    )
    own.interrupted.remove()
    return result


def _prepare(session: Session, client: str, data: str | None, reading: Given) -> ClientTraining:
    """Read what a client starts from, and describe it."""
    number, device = session.round.number, session.device
    masking = Masking.of(session, client)
    examples = open_data(
        session.run, client, data, session.execution, device, session.progress, reading
    )
    limit = privacy_limit(session.plan)
    session = replace(session, plan=with_noise(session.plan, examples.count))
    start = starting_state(session, client)
    digest = keyed_digest(session, client, examples.fingerprint, own_data=data is not None)
    metadata = update_metadata(session, client, examples.count, digest, start)
    if masking is not None:
        metadata = masking.withheld(session.run, metadata)
    private = private_step(session, metadata, examples.count, limit)
    interrupted = TrainingCheckpoint(session.states.training_checkpoint(number, client), metadata)
    return ClientTraining(session, client, examples, start, metadata, masking, private, interrupted)


def _already_trained(own: ClientTraining, done: ExistingUpdate) -> ClientResult:
    """Return the result for an update that exists; what its training spent is charged by now."""
    session, number = own.session, own.session.round.number
    own.interrupted.remove()
    if own.private is not None:
        own.private.recall()
    session.progress.say(f"client {own.client}: round {number} is already trained")
    return existing_result(session, own.metadata, done, own.examples.count)


def _check_may_train(own: ClientTraining, done: ExistingUpdate | None) -> None:
    """Raise ``ConflictError`` for a round that takes no update, or more privacy than is left."""
    run, round_ = own.session.run, own.session.round
    if done is None and not round_.update(own.client).exists():
        check_not_used(run, round_, own.client)
    if own.masking is not None:
        own.masking.check_open(round_)
    if own.private is not None:
        own.private.check()


@dataclass(frozen=True)
class UpdateToSend:
    """What a training made, encoded or masked as it is sent, and the seconds that it took."""

    metadata: Metadata
    trained: Trained
    masked: MaskedUpdate | None
    seconds: float


def _make_update(own: ClientTraining) -> UpdateToSend:
    trained, seconds = _train(own)
    metadata = _with_results(own, trained)
    if own.masking is None:
        trained = encoded(own.session, metadata, own.start, trained)
        return UpdateToSend(metadata, trained, None, seconds)
    masked = own.masking.masked(own.session, own.start, trained, own.examples.count)
    return UpdateToSend(metadata, masked.trained, masked, seconds)


def _train(own: ClientTraining) -> tuple[Trained, float]:
    """Train to the end of the round; return the seconds that it took, with those before it."""
    session = own.session
    may_resume = session.trusts_kept_files and not session.force
    resume = own.interrupted.read(session.progress) if may_resume else None
    started = time.perf_counter()
    reset_peak_memory(session.device)
    device, threads = str(session.device), session.threads
    with HeartbeatWriter(
        session.round, own.client, device=device, threads=threads, after=FIRST
    ) as heartbeat:
        observer = observer_of(session, own.client, own.interrupted, own.private, heartbeat)
        trained = _fit(own, resume, observer)
    return trained, time.perf_counter() - started + seconds_before(resume)


def _with_results(own: ClientTraining, trained: Trained) -> Metadata:
    """Add to the description what only the training tells."""
    metadata = own.metadata
    training = replace(
        metadata.training,
        initial_loss=trained.initial_loss,
        micro_batch=trained.micro_batch or metadata.training.micro_batch,
    )
    layout = own.session.base.layout
    controls = dict.fromkeys(trained.sent.keys() - layout.keys(), Role.CONTROL)
    return replace(metadata, training=training, roles={**metadata.roles, **controls})


def _fit(own: ClientTraining, resume: Resume | None, observer: Observer) -> Trained:
    """Build the network, load the global model into it, and train it."""
    session, info = own.session, own.session.run.info
    again = partial(
        build,
        info.model,
        len(info.dataset.classes),
        info.dataset.shape,
        own=session.own,
        seed=info.seed,
    )
    module = again()
    check_ties(module, session.tensors.tied, session.base.path)
    load_arrays(module, session.base.read(), session.base.path)
    with out_of_memory_as_error("a smaller --batch-size or --model, or another --device"):
        given = _assignment(own, module, again, resume)
        return train_locally(given, observer, partial(say_shrink, session.progress, own.client))


def _assignment(
    own: ClientTraining, module: nn.Module, again: Callable[[], nn.Module], resume: Resume | None
) -> Assignment:
    session, streams = own.session, None if own.private is None else own.private.streams
    info, device, number = session.run.info, session.device, session.round.number
    public_seed = stream_seed(session.seed, number, own.client, "training")
    return Assignment(
        module=module,
        build=again,
        source=own.examples.source(device),
        plan=session.plan,
        lr=session.lr,
        tensors=session.tensors,
        normalize=Normalize.for_dataset(info.dataset, as_rgb=takes_rgb(info.model), device=device),
        seed=public_seed if streams is None else streams.seed("training"),
        device=device,
        kept=own.start.kept,
        local=own.start.local,
        server=session.server.values,
        micro_batch=session.execution.micro_batch,
        compile=session.execution.compile,
        streams=streams,
        resume=resume,
    )
