"""Train clients on their own data for one round, and write their updates."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedcli.client.data import ClientData, open_data
from fedcli.client.deliver import ClientResult, deliver, existing_result
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
from fedcli.client.private import PrivateStep, private_step, public_event
from fedcli.client.rebuild import is_drawn, rebuild_models
from fedcli.client.resume import Resume, TrainingCheckpoint, seconds_before
from fedcli.client.session import (
    Session,
    StartingState,
    check_state_is_own,
    checked_length,
    open_session,
    starting_state,
)
from fedcli.errors import (
    BadInputError,
    ConflictError,
    FedcliError,
    NotReadyError,
    SeveralFailedError,
    UsageError,
)
from fedcli.formats.client_ids import check_distinct
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.records import encode
from fedcli.models import build, takes_rgb
from fedcli.models.ties import check_ties
from fedcli.models.weights import load_arrays
from fedcli.options import NONE, Given
from fedcli.plan.execution import Execution
from fedcli.plan.private_events import privacy_limit, with_noise
from fedcli.progress import Progress
from fedcli.randomness import stream_seed
from fedcli.run import Run
from fedcli.run.exchange import files_of_client, files_of_round
from fedcli.run.heartbeat import HeartbeatWriter
from fedcli.run.next_command import round_to_train
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import member_keys
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import out_of_memory_as_error, peak_memory, reset_peak_memory
from fedcli.training.loop import Epoch, Observer, Stage, Trainer, steps_of

__all__ = ["ClientResult", "TrainClientResult", "train_client"]


@dataclass(frozen=True)
class TrainClientResult:
    """The result of ``train_client``; ``clients`` are in client order.

    For a client whose data is not in the run, ``send`` lists the files that the coordinator needs
    from it, in the order in which they are to arrive, ``may_send`` its telemetry, and ``awaits``
    the files of this round that it starts the next one from.
    """

    round: int
    training: dict[str, Any]
    device: str
    clients: tuple[ClientResult, ...]
    send: tuple[Path, ...]
    may_send: tuple[Path, ...]
    awaits: tuple[Path, ...]


def train_client(
    run: Run,
    clients: Sequence[str],
    *,
    round_number: int | None = None,
    data: str | None = None,
    reading: Given = NONE,
    options: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    seed: int | None = None,
    own_model: str | None = None,
    key: Path | None = None,
    noise_key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainClientResult:
    """Train clients one after another and write their updates for a round.

    ``clients`` are ids as in ``--id``. ``data`` is a client's own folder or npz file, which
    replaces its shard in the run, read as ``reading`` says (``--skip-bad`` and ``--labels-csv``
    with its columns, by name). ``options`` are hyper-parameters by their names in ``TrainPlan``
    that override the run's plan. ``key`` is the file with a member's private key, ``noise_key`` the
    one that private training draws from. The same inputs and keys on the same machine with the same
    number of threads give the same bytes, whether clients are trained alone or together.

    Raises ``UsageError``, ``NotReadyError``, ``DataError``, ``ConflictError`` (the update exists
    and was made from other inputs), ``OutOfMemoryError`` and ``StorageError``. If a client's own
    data, files or state cannot be used, the others are trained before that is raised.
    """
    ids = run.choose_clients(clients)
    check_distinct(ids)
    if data is not None and len(ids) != 1:
        raise UsageError(f"--data: belongs to one client, found {len(ids)} in --id")
    signing = member_keys(run, ids, key)
    rebuild_models(run, own_model, progress)
    round_ = round_to_train(run, round_number, ids)
    session = open_session(
        run,
        round_,
        options or {},
        execution or Execution(),
        seed=seed,
        own_model=own_model,
        force=force,
        key=signing.get(ids[0]),
        noise_key=noise_key,
        progress=progress,
    )
    check_state_is_own(session, data)
    session = replace(session, drawn=_drew_start(run, ids, own_model))
    results = _train_each(session, ids, signing, data, reading)
    training = encode(session.training)
    if session.plan.initial_loss:
        training["initial_loss"] = True
    away = [client for client in ids if not run.client_shard(client).exists()]
    return TrainClientResult(
        round=round_.number,
        training=training,
        device=str(session.device),
        clients=results,
        send=tuple(path for client in away for path in files_of_client(run, round_, client)),
        may_send=tuple(path for client in away if (path := round_.telemetry(client)).exists()),
        awaits=files_of_round(run, round_) if away else (),
    )


def _train_each(
    session: Session,
    ids: Sequence[str],
    signing: Mapping[str, SigningKey],
    data: str | None,
    reading: Given,
) -> tuple[ClientResult, ...]:
    done: list[ClientResult] = []
    failed: list[FedcliError] = []
    for client in ids:
        own = replace(session, key=signing.get(client))
        try:
            done.append(_train_one(own, client, data, reading))
        except (BadInputError, NotReadyError, ConflictError) as error:
            if len(ids) == 1:
                raise
            session.progress.say(f"client {client}: {error.message}")
            failed.append(error.amended(hint=error.hint, client=client))
    if failed:
        raise SeveralFailedError.together(failed, len(ids))
    return tuple(done)


def _drew_start(run: Run, ids: Sequence[str], own_model: str | None) -> bool:
    """Return whether clients that have trained nothing yet can draw the starting model here.

    It is only needed in a run with deltas, whose clients receive no whole model.
    """
    before = run.round(0)
    if not (before.delta.exists() and before.global_model.exists()):
        return False
    seen = {client for round_ in run.rounds() for client in round_.delivered()}
    return not seen.issuperset(ids) and is_drawn(run, own_model)


def _train_one(session: Session, client: str, data: str | None, reading: Given) -> ClientResult:
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
    metadata = _metadata(session, client, examples.count, digest, start)
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
        observer = _observer(session, client, interrupted, private, heartbeat)
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


def _metadata(
    session: Session, client: str, examples: int, digest: str, start: StartingState
) -> Metadata:
    """Describe the update and its inputs, which include the state that the client starts from."""
    codec, withheld = session.plan.codec, session.tensors.withheld
    roles = {name: role for name, role in session.base.roles.items() if name not in withheld}
    steps = steps_of(session.plan, examples)
    training = replace(
        session.training,
        steps=steps,
        examples=digest,
        state=start.sha256s[0] if len(start.sha256s) == 1 else start.sha256s,
        privacy=public_event(session.plan, examples),
    )
    if session.plan.local.divides_by_length:
        training = training.plus(session.plan.local.recorded(checked_length(session, steps)))
    return Metadata(
        Kind.UPDATE,
        session.run.id,
        round=session.round.number,
        client=client,
        num_examples=None if session.withholds else examples,
        base=session.base.sha256,
        roles=roles if codec is None else {},
        tied=session.base.tied,
        training=training,
        seed=session.seed,
        encoding=None if codec is None else codec.as_json(),
    )


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
        return train_locally(given, observer, partial(_say_shrink, session.progress, client))


def _observer(
    session: Session,
    client: str,
    interrupted: TrainingCheckpoint,
    private: PrivateStep | None,
    heartbeat: HeartbeatWriter,
) -> Observer:
    progress, every = session.progress, session.execution.checkpoint_every
    begun: set[str] = set()

    def on_batch(stage: Stage, number: int, images_per_second: float) -> None:
        if heartbeat.due:
            heartbeat.update(
                epoch=number,
                epochs=stage.epochs,
                images_per_second=None if session.withholds else images_per_second,
                memory_bytes=None if session.withholds else peak_memory(session.device),
            )

    def on_epoch(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
        if every is not None and trainer.epochs_done % every == 0 and not trainer.at_end:
            if private is not None:
                private.charge()
            interrupted.write(trainer)
        if stage.name not in begun:
            begun.add(stage.name)
            label = " ".join(filter(None, (f"client {client}", stage.name)))
            progress.start(label, stage.epochs - epoch.epoch + 1)
        progress.advance()
        progress.say(
            f"client {client}  {stage.name + '  ' if stage.name else ''}"
            f"epoch {epoch.epoch}/{stage.epochs}  loss {epoch.loss:.4f}"
            f"  accuracy {epoch.accuracy:.1%}  {epoch.examples / epoch.seconds:.0f} images/s"
        )

    return Observer(on_epoch, on_batch)


def _say_shrink(progress: Progress, client: str, size: int) -> None:
    progress.say(
        f"client {client}: out of memory; continuing with {size} examples at a time"
        f" (next time: --micro-batch {size})"
    )
