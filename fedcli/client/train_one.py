"""Train one client on its data for a round, and write its update."""

import time
from dataclasses import replace
from functools import partial

from fedcli.client.data import ClientData, open_data
from fedcli.client.deliver import ClientResult, deliver, existing_result
from fedcli.client.description import update_metadata
from fedcli.client.encoding import encoded
from fedcli.client.existing_update import (
    check_not_used,
    check_replaceable,
    find_existing,
    why_unfinished,
)
from fedcli.client.keyed_digest import keyed_digest
from fedcli.client.local_training import Assignment, Trained, train_locally
from fedcli.client.masked import Masking
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
from fedcli.run.heartbeat import HeartbeatWriter
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import out_of_memory_as_error, reset_peak_memory
from fedcli.training.loop import Observer


def train_one(session: Session, client: str, data: str | None, reading: Given) -> ClientResult:
    """Train a client, or find that its update exists; arguments and errors as ``train_client``."""
    number, device = session.round.number, session.device
    masking = Masking.of(session, client)
    examples = open_data(
        session.run, client, data, session.execution, device, session.progress, reading
    )
    limit = privacy_limit(session.plan)
    session = replace(session, plan=with_noise(session.plan, examples.count))
    start = starting_state(session, client)
    plain = examples.fingerprint
    digest = keyed_digest(session, client, plain, own_data=data is not None)
    metadata = update_metadata(session, client, examples.count, digest, start)
    if masking is not None:
        metadata = masking.withheld(session.run, metadata)
    private = private_step(session, metadata, examples.count, limit)
    interrupted = TrainingCheckpoint(session.states.training_checkpoint(number, client), metadata)
    done = None
    if session.force:
        check_replaceable(session.round, client)
    elif done := find_existing(session, metadata, plain):
        fault = why_unfinished(session, client, done)
        if fault is None:
            interrupted.remove()
            if private is not None:
                private.recall()
            session.progress.say(f"client {client}: round {number} is already trained")
            return existing_result(session, metadata, done, examples.count)
        session.progress.say(f"client {client}: {fault}; training again")
    if done is None and not session.round.update(client).exists():
        check_not_used(session.run, session.round, client)
    if masking is not None:
        masking.check_open(session.round)
    if private is not None:
        private.check()
    may_resume = session.trusts_kept_files and not session.force
    resume = interrupted.read(session.progress) if may_resume else None
    started = time.perf_counter()
    reset_peak_memory(device)
    with HeartbeatWriter(
        session.round, client, device=str(device), threads=session.threads
    ) as heartbeat:
        observer = observer_of(session, client, interrupted, private, heartbeat)
        trained = _fit(session, metadata, examples, start, resume, private, observer)
    elapsed = time.perf_counter() - started + seconds_before(resume)
    training = replace(
        metadata.training,
        initial_loss=trained.initial_loss,
        micro_batch=trained.micro_batch or metadata.training.micro_batch,
    )
    controls = dict.fromkeys(trained.sent.keys() - session.base.layout.keys(), Role.CONTROL)
    metadata = replace(metadata, training=training, roles={**metadata.roles, **controls})
    if masking is None:
        trained, masked = encoded(session, metadata, start, trained), None
    else:
        masked = masking.masked(session, start, trained, examples.count)
        trained = masked.trained
    again = session.force or done is not None
    result = deliver(
        session,
        metadata,
        trained,
        elapsed,
        examples=examples.count,
        masked=masked,
        private=private,
        again=again,
        skipped=examples.skipped,
    )
    interrupted.remove()
    return result


def _fit(
    session: Session,
    metadata: Metadata,
    examples: ClientData,
    start: StartingState,
    resume: Resume | None,
    private: PrivateStep | None,
    observer: Observer,
) -> Trained:
    info, device, client = session.run.info, session.device, metadata.client or ""
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
    public_seed = stream_seed(session.seed, session.round.number, client, "training")
    with out_of_memory_as_error("a smaller --batch-size or --model, or another --device"):
        given = Assignment(
            module=module,
            build=again,
            source=examples.source(device),
            plan=session.plan,
            lr=session.lr,
            tensors=session.tensors,
            normalize=Normalize.for_dataset(
                info.dataset, as_rgb=takes_rgb(info.model), device=device
            ),
            seed=public_seed if private is None else private.streams.seed("training"),
            device=device,
            kept=start.kept,
            local=start.local,
            server=session.server.values,
            micro_batch=session.execution.micro_batch,
            compile=session.execution.compile,
            streams=None if private is None else private.streams,
            resume=resume,
        )
        return train_locally(given, observer, partial(say_shrink, session.progress, client))
