"""Train clients on their own data for one round, and write what they send."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedcli.checkpoint import Checkpoint, save
from fedcli.devices import out_of_memory_as_error, peak_memory, reset_peak_memory
from fedcli.errors import UsageError
from fedcli.files import write_json
from fedcli.live import Live
from fedcli.metadata import Kind, Metadata, Role
from fedcli.models import build, takes_rgb
from fedcli.models.weights import load_arrays
from fedcli.progress import Progress
from fedcli.randomness import stream_seed
from fedcli.run import Run
from fedcli.steps.client_data import ClientData, open_data
from fedcli.steps.client_session import (
    Before,
    Execution,
    Session,
    checked_length,
    kept_before,
    open_session,
)
from fedcli.steps.delivered import check_replaceable, find_delivered
from fedcli.steps.left_off import LeftOff, Resume, seconds_before
from fedcli.steps.local_training import Assignment, Trained, train_locally
from fedcli.steps.telemetry import telemetry
from fedcli.training import Epoch, Normalize, Observer, Stage, Trainer, steps_of

__all__ = ["ClientResult", "Execution", "TrainClientResult", "train_client"]


@dataclass(frozen=True)
class ClientResult:
    """What became of one client; ``epochs`` is empty when its update was there already."""

    client: str
    already_done: bool
    path: Path
    sha256: str
    num_examples: int
    bytes: int
    seconds: float
    images_per_second: float | None
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class TrainClientResult:
    """What ``train_client`` did: one entry a client, in client order."""

    round: int
    training: dict[str, Any]
    device: str
    clients: tuple[ClientResult, ...]


def train_client(
    run: Run,
    clients: Sequence[str],
    *,
    round_number: int | None = None,
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    seed: int | None = None,
    own_model: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainClientResult:
    """Train clients one after another and write their updates for a round.

    ``clients`` are ids as ``--id`` takes them. ``data`` is a client's own folder or npz file, in
    place of its shard in the run. ``options`` are hyper-parameters by their names in
    ``TrainPlan``, where they differ from the run's plan. The same inputs on the same machine with
    the same number of threads give the same bytes, for each client alone or for several at once.

    Raises ``UsageError``, ``NotReadyError``, ``DataError``, ``ConflictError`` (the update exists
    and was made from other inputs), ``OutOfMemoryError`` and ``StorageError``.
    """
    ids = run.choose_clients(clients)
    if data is not None and len(ids) != 1:
        raise UsageError(f"--data: belongs to one client, found {len(ids)} in --id")
    session = open_session(
        run,
        round_number,
        options or {},
        execution or Execution(),
        seed=seed,
        own_model=own_model,
        force=force,
        progress=progress,
    )
    results = tuple(_train_one(session, client, data) for client in ids)
    return TrainClientResult(session.round.number, session.training, str(session.device), results)


def _train_one(session: Session, client: str, data: str | None) -> ClientResult:
    number, device = session.round.number, session.device
    examples = open_data(session.run, client, data, session.execution, device, session.progress)
    before = kept_before(session, client)
    metadata = _metadata(session, client, examples, before)
    left_off = LeftOff(session.states.left_off(number, client), metadata)
    if session.force:
        check_replaceable(session.round, client)
    elif done := find_delivered(session.round, client, metadata, session.undecided):
        if not session.keeps_state or session.states.goes_with_update(number, client):
            left_off.remove()
            session.progress.say(f"client {client}: round {number} is already trained")
            return ClientResult(
                client, True, done.path, done.sha256, examples.count, done.bytes, 0.0, None, ()
            )
        session.progress.say(
            f"client {client}: its state is gone, or of another training; training again"
        )
    resume = None if session.force else left_off.read(session.progress)
    started = time.perf_counter()
    reset_peak_memory(device)
    with Live(session.round, client, device=str(device), threads=session.threads) as live:
        observer = _observer(session, client, left_off, live)
        trained = _fit(session, metadata, examples, before, resume, observer)
    elapsed = time.perf_counter() - started + seconds_before(resume)
    facts = {"initial_loss": trained.initial_loss, "micro_batch": trained.micro_batch}
    measured = {key: value for key, value in facts.items() if value is not None}
    metadata = replace(metadata, training={**(metadata.training or {}), **measured})
    result = _publish(session, metadata, trained, elapsed)
    left_off.remove()
    return result


def _metadata(session: Session, client: str, examples: ClientData, before: Before) -> Metadata:
    """Describe the update; with the states that the client starts from among the inputs."""
    withheld = session.tensors.frozen | session.tensors.local
    training = {
        **session.training,
        "steps": steps_of(session.plan, examples.count),
        "examples": examples.fingerprint,
    }
    if before.sha256s:
        one, *others = before.sha256s
        training["state"] = [one, *others] if others else one
    if session.plan.algorithm in ("fednova", "scaffold"):
        length = checked_length(session, training["steps"])
        if session.plan.algorithm == "fednova":
            training["normalized_steps"] = length
    return Metadata(
        Kind.UPDATE,
        session.run.id,
        round=session.round.number,
        client=client,
        num_examples=examples.count,
        base=session.base_digest,
        roles={name: role for name, role in session.roles.items() if name not in withheld},
        training=training,
        seed=session.seed,
    )


def _fit(
    session: Session,
    metadata: Metadata,
    examples: ClientData,
    before: Before,
    resume: Resume | None,
    observer: Observer,
) -> Trained:
    info, device, client = session.run.info, session.device, metadata.client or ""
    # The fresh weights are all overwritten by the base model's.
    module = build(
        info.model, len(info.dataset.classes), info.dataset.shape, own=session.own, seed=0
    )
    load_arrays(module, session.base, session.run.round(session.round.number - 1).global_model)
    with out_of_memory_as_error("a smaller --batch-size or --model, or another --device"):
        given = Assignment(
            module=module,
            source=examples.source(device),
            plan=session.plan,
            lr=session.lr,
            tensors=session.tensors,
            normalize=Normalize.for_dataset(
                info.dataset, as_rgb=takes_rgb(info.model), device=device
            ),
            seed=stream_seed(session.seed, session.round.number, client, "training"),
            device=device,
            kept=before.kept,
            local=before.local,
            server=session.server,
            micro_batch=session.execution.micro_batch,
            compile=session.execution.compile,
            resume=resume,
        )
        return train_locally(given, observer, partial(_say_shrink, session.progress, client))


def _observer(session: Session, client: str, left_off: LeftOff, live: Live) -> Observer:
    progress, every = session.progress, session.execution.checkpoint_every
    begun: set[str] = set()

    def on_batch(stage: Stage, number: int, images_per_second: float) -> None:
        if live.due:
            live.update(
                epoch=number,
                epochs=stage.epochs,
                images_per_second=images_per_second,
                memory_bytes=peak_memory(session.device),
            )

    def on_epoch(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
        if every is not None and trainer.epochs_done % every == 0 and not trainer.at_end:
            left_off.write(trainer)
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
        f"client {client}: out of memory; going on with {size} examples at a time"
        f" (next time: --micro-batch {size})"
    )


def _publish(
    session: Session, metadata: Metadata, trained: Trained, elapsed: float
) -> ClientResult:
    client, examples = metadata.client or "", metadata.num_examples or 0
    roles = dict.fromkeys(trained.sent.keys() - session.base.keys(), Role.CONTROL)
    metadata = replace(metadata, roles={**metadata.roles, **roles})
    volatile = telemetry(
        trained.epochs,
        trained.personal_epochs,
        seconds=elapsed,
        device=session.device,
        threads=session.threads,
        micro_batch=trained.micro_batch,
    )

    def record(sha256: str, size: int) -> None:
        facts = {"format": 1, "client": client, "round": session.round.number, "sha256": sha256}
        values = {**facts, "bytes": size, "num_examples": examples, **volatile}
        write_json(session.round.telemetry(client), values)

    path = session.round.update(client)
    sha256 = _write(session, metadata, trained, record)
    return ClientResult(
        client,
        False,
        path,
        sha256,
        examples,
        path.stat().st_size,
        elapsed,
        volatile["images_per_second"],
        tuple(trained.epochs),
    )


def _write(
    session: Session, metadata: Metadata, trained: Trained, record: Callable[[str, int], None]
) -> str:
    """Write the state, then the update; return the update's SHA-256."""
    client = metadata.client or ""
    path = session.round.update(client)
    if path.exists() and session.round.global_model.exists():
        # Only the state was lost: a global model was made from this update, which the new state
        # goes with, be it made with another number of threads.
        with Checkpoint(path, Kind.UPDATE) as update:
            session.states.write(update.metadata, trained.kept)
            return update.digest()
    if session.keeps_state:
        session.states.write(metadata, trained.kept)
    else:
        session.states.remove(session.round.number, client)
    return save(path, trained.sent, metadata, before_publishing=record)
