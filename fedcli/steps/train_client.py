"""Train clients on their own data for one round, and write what they send."""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fedcli.advice import train_command
from fedcli.checkpoint import Checkpoint, save
from fedcli.devices import choose_device, out_of_memory_as_error, peak_memory, set_threads
from fedcli.dtypes import Array
from fedcli.errors import NotReadyError, UsageError
from fedcli.files import write_json
from fedcli.metadata import Kind, Metadata
from fedcli.models import build, takes_rgb
from fedcli.models.weights import load_arrays, to_arrays
from fedcli.plan import TrainPlan, updated
from fedcli.progress import Progress, Silence
from fedcli.randomness import stream_seed
from fedcli.run import Round, Run
from fedcli.shards import Examples, read_shard
from fedcli.steps.delivered import check_replaceable, find_delivered, fingerprint
from fedcli.training import Epoch, Normalize, count_batches, mean_loss, train


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


@dataclass(frozen=True)
class _Session:
    """What is the same for every client of one call.

    ``undecided`` are the training facts that nobody chose but the machine: they make no conflict
    with an update that is there already.
    """

    run: Run
    round: Round
    plan: TrainPlan
    seed: int
    device: torch.device
    threads: int
    own: str | None
    force: bool
    base: dict[str, Array]
    base_digest: str
    roles: Mapping[str, Any]
    progress: Progress
    undecided: frozenset[str]

    @property
    def training(self) -> dict[str, Any]:
        """The hyper-parameters as used, and where."""
        return {
            "algorithm": "fedavg",
            "optimizer": "sgd",
            **asdict(self.plan),
            "device": self.device.type,
            "threads": self.threads,
        }


def train_client(
    run: Run,
    clients: Sequence[str],
    *,
    round_number: int | None = None,
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
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
    plan = updated(run.info.plan.train, options or {})
    if plan.augment and len(run.info.dataset.shape) != 3:
        raise UsageError("--augment: works on pictures; this run's examples are none")
    round_ = run.training_round(round_number)
    base_path = run.round(round_.number - 1).global_model
    with Checkpoint(base_path, Kind.GLOBAL) as base:
        session = _Session(
            run=run,
            round=round_,
            plan=plan,
            seed=run.info.seed if seed is None else seed,
            device=choose_device(device),
            threads=set_threads(threads),
            own=own_model,
            force=force,
            base=base.tensors(),
            base_digest=base.digest(),
            roles=base.metadata.roles,
            progress=progress or Silence(),
            undecided=_undecided(device, threads),
        )
    results = tuple(_train_one(session, client, data) for client in ids)
    return TrainClientResult(round_.number, session.training, str(session.device), results)


def _undecided(device: str, threads: int | None) -> frozenset[str]:
    facts = {"device": device == "auto", "threads": threads is None}
    return frozenset(name for name, undecided in facts.items() if undecided)


def _train_one(session: _Session, client: str, data: str | None) -> ClientResult:
    examples = _examples(session, client, data)
    training = {
        **session.training,
        "steps": session.plan.epochs * count_batches(len(examples), session.plan.batch_size),
        "examples": fingerprint(examples),
    }
    if not session.plan.initial_loss:
        del training["initial_loss"]
    metadata = Metadata(
        Kind.UPDATE,
        session.run.id,
        round=session.round.number,
        client=client,
        num_examples=len(examples),
        base=session.base_digest,
        roles=session.roles,
        training=training,
        seed=session.seed,
    )
    if session.force:
        check_replaceable(session.round, client)
    elif done := find_delivered(session.round, client, metadata, session.undecided):
        session.progress.say(f"client {client}: round {session.round.number} is already trained")
        return ClientResult(
            client, True, done.path, done.sha256, len(examples), done.bytes, 0.0, None, ()
        )
    started = time.perf_counter()
    tensors, epochs, initial_loss = _fit(session, client, examples)
    elapsed = time.perf_counter() - started
    if initial_loss is not None:
        metadata = replace(metadata, training={**training, "initial_loss": initial_loss})
    return _publish(session, metadata, tensors, epochs, elapsed)


def _examples(session: _Session, client: str, data: str | None) -> Examples:
    run = session.run
    if data is not None:
        from fedcli.datasets import load_examples  # decoding is for those who bring pictures

        return load_examples(data, run.info.dataset, "train", session.progress)
    shard = run.client_shard(client)
    if not shard.exists():
        raise NotReadyError(
            f"{shard}: the run holds no data of client {client!r}",
            hint=f"with that client's own data: {train_command(run, [client])}",
        )
    return read_shard(shard)


def _fit(
    session: _Session, client: str, examples: Examples
) -> tuple[dict[str, Array], list[Epoch], float | None]:
    info, device = session.run.info, session.device
    # The fresh weights are all overwritten by the base model's.
    module = build(
        info.model, len(info.dataset.classes), info.dataset.shape, own=session.own, seed=0
    )
    load_arrays(module, session.base, session.run.round(session.round.number - 1).global_model)
    total = session.plan.epochs
    session.progress.start(f"client {client}", total)

    def report(epoch: Epoch) -> None:
        session.progress.advance()
        session.progress.say(
            f"client {client}  epoch {epoch.epoch}/{total}  loss {epoch.loss:.4f}"
            f"  accuracy {epoch.accuracy:.1%}  {len(examples) / epoch.seconds:.0f} images/s"
        )

    batch_size = session.plan.batch_size
    normalize = Normalize.for_dataset(info.dataset, as_rgb=takes_rgb(info.model), device=device)
    initial_loss = None
    with out_of_memory_as_error(f"try --batch-size {max(1, batch_size // 2)}"):
        module.to(device)
        x, y = torch.from_numpy(examples.x).to(device), torch.from_numpy(examples.y).to(device)
        if session.plan.initial_loss:
            initial_loss = mean_loss(module, x, y, normalize=normalize, batch_size=batch_size)
        epochs = train(
            module,
            x,
            y,
            session.plan,
            normalize=normalize,
            seed=stream_seed(session.seed, session.round.number, client, "training"),
            on_epoch=report,
        )
    return to_arrays(module), epochs, initial_loss


def _publish(
    session: _Session,
    metadata: Metadata,
    tensors: dict[str, Array],
    epochs: list[Epoch],
    elapsed: float,
) -> ClientResult:
    client, examples = metadata.client or "", metadata.num_examples or 0
    path = session.round.update(client)
    speed = examples * len(epochs) / sum(epoch.seconds for epoch in epochs)

    def record(sha256: str, size: int) -> None:
        telemetry = {
            "format": 1,
            "client": client,
            "round": session.round.number,
            "sha256": sha256,
            "bytes": size,
            "num_examples": examples,
            "seconds": elapsed,
            "images_per_second": speed,
            "host": socket.gethostname(),
            "device": str(session.device),
            "threads": session.threads,
            "peak_memory_bytes": peak_memory(session.device),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "epochs": [asdict(epoch) for epoch in epochs],
        }
        write_json(session.round.telemetry(client), telemetry)

    sha256 = save(path, tensors, metadata, before_publishing=record)
    size = path.stat().st_size
    return ClientResult(client, False, path, sha256, examples, size, elapsed, speed, tuple(epochs))
