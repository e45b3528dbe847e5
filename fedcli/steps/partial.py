"""Add up the updates of some clients into a partial mean, which others add up further."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.advice import train_command
from fedcli.checkpoint import Checkpoint, create, digest
from fedcli.errors import CheckpointError, ConflictError, NotReadyError, UsageError
from fedcli.manifest import Contribution, PartialContribution
from fedcli.metadata import Kind, Metadata
from fedcli.participation import Invitation, participation
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.steps.aggregate import contributions, partial_contributions
from fedcli.steps.members import sort_members
from fedcli.strategies import resolve
from fedcli.updates import (
    NO_DIGEST,
    Base,
    Update,
    check_digest,
    open_updates,
    partial_layout,
    read_base,
)
from fedcli.weighted_sums import add_up


@dataclass(frozen=True)
class PartialResult:
    """What ``partial`` did. ``total_weight`` is what the sums in the file are to be divided by.

    ``clients`` are the updates that were added up, ``partials`` the partial means among them;
    both are empty when the file was there already.
    """

    path: Path
    sha256: str
    round: int
    weighting: str
    clients: tuple[Contribution, ...]
    partials: tuple[PartialContribution, ...]
    total_weight: float
    seconds: float
    already_done: bool


def partial(
    run: Run,
    members: Sequence[str],
    output: Path,
    *,
    round_number: int | None = None,
    options: Mapping[str, Any] | None = None,
    exclude: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> PartialResult:
    """Write the sum of weighted updates, in float64, with the sum of the weights.

    ``members`` are ids of clients and files of partial means, and nobody else counts; by default
    all updates of the round that are there. The mean of the whole is what ``aggregate`` makes of
    its parts; it equals the mean of all updates at once but for the rounding of sums in float64.

    Raises ``NotReadyError`` when a client that was named has not delivered, ``UsageError`` for a
    rule that is no mean weighted by examples or uniform, ``UpdateError``, ``ConflictError`` when
    the file is there and was made from other inputs, and ``StorageError``.
    """
    started = time.perf_counter()
    typed = {key: value for key, value in (options or {}).items() if value is not None}
    plan = run.info.plan.aggregate.with_options(typed)
    rule = resolve(plan, typed.keys())
    if rule.reduce != "mean" or not rule.weigher.of_partials:
        raise UsageError(
            f"--partial: adds up a mean weighted by examples or uniform, not {rule.reduce} with"
            f" weighting {rule.weighting}"
        )
    round_ = run.training_round(round_number)
    chosen = sort_members(run, members, rule)
    excluded = run.choose_clients(exclude, "--exclude") if exclude else ()
    named = chosen.clients if chosen.clients or not chosen.partials else ()
    seen = participation(Invitation(run, round_, plan, excluded, named, chosen.covered))
    if (chosen.clients and seen.missing) or not (seen.accepted or chosen.partials):
        names = [absence.client for absence in seen.missing]
        raise NotReadyError(
            f"round {round_.number}: no update of {', '.join(names[:10]) or 'any client'}",
            hint=train_command(run, names, round_.number),
        )
    base = read_base(run, round_)
    wanted = [(base, client) for client in seen.clients]
    files = [chosen.partials[name] for name in sorted(chosen.partials)]
    with open_updates(base, wanted, files, rule.weighting) as updates:
        shares = rule.weigher.weigh([u.contributor for u in updates], None, rule.options)
        if output.exists() and not force:
            return _unchanged(output, base, updates, rule.weighting, shares.divisor)
        placeholder = _metadata(base, updates, rule.weighting, {u.name: NO_DIGEST for u in updates})
        with create(output, partial_layout(base), placeholder) as writer:
            add_up(base, updates, shares.weights.tolist(), writer, progress or Silence())
            direct = [update for update in updates if not update.members]
            for update in direct:
                check_digest(update)
            digests = {update.name: update.digest() for update in updates}
            sha256 = writer.finish(_metadata(base, updates, rule.weighting, digests))
        counts = shares.weights / shares.divisor
        return PartialResult(
            path=output,
            sha256=sha256,
            round=round_.number,
            weighting=rule.weighting,
            clients=contributions(direct, counts, set(range(len(direct))), ()),
            partials=partial_contributions(updates, counts),
            total_weight=shares.divisor,
            seconds=round(time.perf_counter() - started, 3),
            already_done=False,
        )


def _metadata(
    base: Base, updates: Sequence[Update], weighting: str, digests: Mapping[str, str]
) -> Metadata:
    members = {u.name: digests[u.name] for u in updates if not u.members}
    for update in updates:
        members.update(update.members)
    partials = {u.name: digests[u.name] for u in updates if u.members}
    return Metadata(
        Kind.PARTIAL,
        base.run.id,
        round=base.round.number,
        num_examples=sum(update.num_examples for update in updates),
        base=base.sha256,
        roles=base.metadata.roles,
        seed=base.metadata.seed,
        updates=members,
        partials=partials or None,
        weighting=weighting,
    )


def _unchanged(
    output: Path, base: Base, updates: Sequence[Update], weighting: str, total_weight: float
) -> PartialResult:
    digests = {update.name: digest(update.path) for update in updates}
    expected = _metadata(base, updates, weighting, digests)
    try:
        with Checkpoint(output, Kind.PARTIAL) as checkpoint:
            found, sha256 = checkpoint.metadata, checkpoint.digest()
    except CheckpointError as error:
        raise ConflictError(
            f"{output}: exists, and is no partial mean: {error.message}", hint="--force replaces it"
        ) from None
    if found.encode() != expected.encode():
        raise ConflictError(
            f"{output}: exists, and was made from other updates or with another weighting",
            hint="--force replaces it",
        )
    number = base.round.number
    return PartialResult(output, sha256, number, weighting, (), (), total_weight, 0.0, True)
