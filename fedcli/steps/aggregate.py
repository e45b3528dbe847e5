"""Combine the updates of a round into the next global model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedcli.advice import train_command
from fedcli.aggregation import Weights, client_weights, largest, weighted_mean
from fedcli.blocks import Block, blocks_of, reduce_blocks
from fedcli.checkpoint import CheckpointWriter, create, digest
from fedcli.dtypes import Array, from_float
from fedcli.errors import ConflictError, FedcliError, NotReadyError, UsageError
from fedcli.files import write_bytes
from fedcli.manifest import Contribution, Manifest, Rejection, read_manifest
from fedcli.metadata import Kind, Metadata
from fedcli.plan import updated
from fedcli.progress import Progress, Silence
from fedcli.run import Round, Run
from fedcli.run_info import client_order
from fedcli.updates import Base, Update, check_digest, not_finite, open_updates, read_base

STRATEGY = "fedavg"
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class AggregateResult:
    """What ``aggregate`` did. ``path`` and ``sha256`` are the new global model's."""

    round: int
    path: Path
    sha256: str
    strategy: str
    weighting: str
    clients: tuple[Contribution, ...]
    missing: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    bytes_read: int
    seconds: float
    already_done: bool


@dataclass(frozen=True)
class _Selection:
    accepted: tuple[str, ...]
    missing: tuple[str, ...]
    rejected: tuple[Rejection, ...]


def aggregate(
    run: Run,
    *,
    round_number: int | None = None,
    weighting: str | None = None,
    min_clients: int | None = None,
    exclude: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> AggregateResult:
    """Write the global model of a round: FedAvg (McMahan et al. 2017) over its updates.

    Floats (parameters and buffers) are averaged in float64, in client order, and rounded once;
    integers take the largest value over the clients. Every client of the run has to have
    delivered, but those in ``exclude``; with ``min_clients`` that many are enough.

    Raises ``NotReadyError`` when updates are missing, ``UpdateError`` when one does not fit,
    ``ConflictError`` when the round is complete and was made from other inputs, ``UsageError``
    for options that cannot be met, and ``StorageError``. After an error the round's directory
    holds what it held before.
    """
    started = time.perf_counter()
    plan = updated(run.info.plan.aggregate, {"weighting": weighting})
    round_ = run.training_round(round_number)
    selection = _select(run, round_, exclude)
    if round_.global_model.exists():
        try:
            same = _check_unchanged(run, round_, selection, plan.weighting)
            return _result(round_, same, already_done=True)
        except ConflictError:
            if not force:
                raise
        _check_replaceable(run, round_)
    _check_quorum(run, round_, selection, min_clients)
    base = read_base(run, round_)
    with open_updates(base, selection.accepted) as updates:
        weights = client_weights([update.num_examples for update in updates], plan.weighting)
        metadata = _metadata(base, updates)
        with (
            _manifest_restored_on_failure(round_),
            create(round_.global_model, base.layout, metadata) as writer,
        ):
            _combine(base, updates, weights, writer, progress or Silence())
            for update in updates:
                check_digest(base, update)
            digests = {update.client: update.digest() for update in updates}
            sha256 = writer.finish(replace(metadata, updates=digests))
            seconds = round(time.perf_counter() - started, 3)
            manifest = _manifest(base, plan.weighting, selection, updates, weights, sha256, seconds)
            manifest.write(round_.manifest)
    return _result(round_, manifest)


def _result(round_: Round, manifest: Manifest, already_done: bool = False) -> AggregateResult:
    return AggregateResult(
        round=round_.number,
        path=round_.global_model,
        sha256=manifest.global_model,
        strategy=manifest.strategy,
        weighting=manifest.weighting,
        clients=manifest.accepted,
        missing=manifest.missing,
        rejected=manifest.rejected,
        bytes_read=sum(contribution.bytes for contribution in manifest.accepted),
        seconds=manifest.seconds,
        already_done=already_done,
    )


def _select(run: Run, round_: Round, exclude: Sequence[str]) -> _Selection:
    excluded = run.choose_clients(exclude, "--exclude") if exclude else []
    delivered = round_.delivered()
    expected = client_order(set(run.info.clients or delivered) - set(excluded))
    if run.info.clients and not expected:
        raise UsageError("--exclude: leaves no client of this run")
    strangers = set(delivered) - set(expected) - set(excluded)
    reasons = dict.fromkeys(excluded, "excluded") | dict.fromkeys(
        strangers, "not a client of this run"
    )
    return _Selection(
        accepted=tuple(client for client in expected if client in delivered),
        missing=tuple(client for client in expected if client not in delivered),
        rejected=tuple(Rejection(client, reasons[client]) for client in client_order(reasons)),
    )


def _check_quorum(run: Run, round_: Round, selection: _Selection, minimum: int | None) -> None:
    delivered, expected = len(selection.accepted), len(selection.accepted + selection.missing)
    if minimum is not None and minimum < 1:
        raise UsageError(f"--min-clients: expected 1 or more, found {minimum}")
    if minimum is not None and run.info.clients and minimum > expected:
        raise UsageError(f"--min-clients: at most {expected} clients can deliver, found {minimum}")
    needed = minimum or expected or 1
    if delivered >= needed:
        return
    names = ", ".join(selection.missing[:10]) + (", …" if len(selection.missing) > 10 else "")
    missing = f"; missing: {names}" if selection.missing else ""
    raise NotReadyError(
        f"round {round_.number}: {delivered} of {needed} clients have delivered an update{missing}",
        hint=train_command(run, selection.missing, round_.number),
    )


def _metadata(base: Base, updates: Sequence[Update]) -> Metadata:
    return Metadata(
        Kind.GLOBAL,
        base.run.id,
        round=base.round.number,
        num_examples=sum(update.num_examples for update in updates),
        base=base.sha256,
        roles=base.metadata.roles,
        seed=base.metadata.seed,
        updates={update.client: _NO_DIGEST for update in updates},
    )


def _manifest(
    base: Base,
    weighting: str,
    selection: _Selection,
    updates: Sequence[Update],
    weights: Weights,
    sha256: str,
    seconds: float,
) -> Manifest:
    return Manifest(
        round=base.round.number,
        strategy=STRATEGY,
        weighting=weighting,
        base=base.sha256,
        global_model=sha256,
        accepted=_contributions(updates, weights),
        missing=selection.missing,
        rejected=selection.rejected,
        seconds=seconds,
    )


def _contributions(updates: Sequence[Update], weights: Weights) -> tuple[Contribution, ...]:
    return tuple(
        Contribution(
            update.client, update.digest(), update.num_examples, float(weight), update.bytes
        )
        for update, weight in zip(updates, weights, strict=True)
    )


def _combine(
    base: Base,
    updates: Sequence[Update],
    weights: Weights,
    writer: CheckpointWriter,
    progress: Progress,
) -> None:
    def reduce(block: Block, values: Iterator[Array]) -> Array:
        if block.counters:
            return largest(values)
        mean = weighted_mean(values, weights)
        if not np.isfinite(mean).all():
            raise not_finite(base, updates, block)
        return from_float(mean, block.dtype)

    blocks = blocks_of(base.layout)
    progress.start(f"aggregating {len(updates)} updates", len(blocks))
    with closing(reduce_blocks(updates, blocks, reduce)) as reduced:
        for block, values in reduced:
            writer.write(values, block.start)
            progress.advance()


@contextmanager
def _manifest_restored_on_failure(round_: Round) -> Iterator[None]:
    # The manifest comes before the global model, which commits the round.
    before = round_.manifest.read_bytes() if round_.manifest.exists() else None
    try:
        yield
    except BaseException:
        if not _describes_global_model(round_):
            if before is None:
                round_.manifest.unlink(missing_ok=True)
            elif before != round_.manifest.read_bytes():
                write_bytes(round_.manifest, before)
        raise


def _describes_global_model(round_: Round) -> bool:
    try:
        manifest = read_manifest(round_.manifest)
        return manifest is not None and manifest.global_model == digest(round_.global_model)
    except FedcliError:
        return False


def _check_unchanged(run: Run, round_: Round, selection: _Selection, weighting: str) -> Manifest:
    """Return the manifest of a complete round that the same inputs would give again.

    Raises ``ConflictError`` that says what differs.
    """
    manifest = read_manifest(round_.manifest)
    if manifest is None:
        raise _conflict(round_, f"{round_.manifest} does not tell what it was made from")
    clients = tuple(contribution.client for contribution in manifest.accepted)
    if manifest.global_model != digest(round_.global_model):
        raise _conflict(round_, f"is not the model that {round_.manifest} describes")
    if manifest.base != digest(run.round(round_.number - 1).global_model):
        raise _conflict(round_, "was made from another base model")
    if manifest.weighting != weighting:
        raise _conflict(round_, f"was made with --weighting {manifest.weighting}, not {weighting}")
    if clients != selection.accepted:
        now = ", ".join(selection.accepted) or "none"
        raise _conflict(round_, f"was made from clients {', '.join(clients)}, not {now}")
    for contribution in manifest.accepted:
        if contribution.sha256 != digest(round_.update(contribution.client)):
            raise _conflict(round_, f"was made from another update of client {contribution.client}")
    return manifest


def _conflict(round_: Round, difference: str) -> ConflictError:
    return ConflictError(
        f"{round_.global_model}: exists, and {difference}", hint="--force replaces it"
    )


def _check_replaceable(run: Run, round_: Round) -> None:
    for later in run.rounds():
        if later.number > round_.number and (later.global_model.exists() or later.delivered()):
            raise ConflictError(
                f"{round_.global_model}: round {later.number} was trained from it",
                hint=f"remove {later.path} and every later round before it is replaced",
            )
