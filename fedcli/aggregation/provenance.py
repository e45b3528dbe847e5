"""Describe the combined updates, for a manifest and for the header of a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.diagnostics import Diagnosis
from fedcli.aggregation.updates import NO_DIGEST, Update
from fedcli.formats.dtypes import Values
from fedcli.formats.manifest import Contribution, PartialContribution, in_all
from fedcli.formats.metadata import Kind, Metadata
from fedcli.plan.departures import Departures
from fedcli.strategies.claims import Claims

_UNKNOWN = Diagnosis(None, None, None)


def digest_placeholder(_: Update) -> str:
    """Return a placeholder for the digest of an update that is not read yet."""
    return NO_DIGEST


def combined_metadata(
    kind: Kind, base: Base, updates: Sequence[Update], digest_of: Callable[[Update], str]
) -> Metadata:
    """Describe a checkpoint that combines updates and partial means from one base model."""
    clients, partials = _digests(updates, digest_of)
    return Metadata(
        kind,
        base.run.id,
        round=base.round.number,
        num_examples=in_all(update.num_examples for update in updates),
        base=base.sha256,
        roles=base.metadata.roles,
        tied=base.metadata.tied,
        seed=base.metadata.seed,
        updates=clients,
        late=_late(base, updates) or None,
        partials=partials or None,
    )


def _late(base: Base, updates: Sequence[Update]) -> dict[str, int]:
    """Return the rounds of the updates that are late."""
    return {
        update.name: update.base.round.number
        for update in updates
        if not update.members and update.base.round.number != base.round.number
    }


def _digests(
    updates: Sequence[Update], digest_of: Callable[[Update], str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the SHA-256s of updates by client, and of partial means by name.

    They are kept apart because a partial mean may have the name of a client.
    """
    clients: dict[str, str] = {}
    partials: dict[str, str] = {}
    for update in updates:
        (partials if update.members else clients)[update.name] = digest_of(update)
    return clients, partials


def contributions(
    updates: Sequence[Update],
    claims: Claims,
    counts: Values,
    kept: set[int],
    figures: Sequence[Diagnosis],
) -> tuple[Contribution, ...]:
    """Describe updates and their weights; ``figures`` is empty if none were measured."""
    bases = {update.base.round.number: update.base for update in updates}
    departures = {n: Departures(base.run.info.plan.train, n) for n, base in bases.items()}
    return tuple(
        Contribution(
            client=update.name,
            sha256=update.digest(),
            num_examples=update.num_examples,
            weight=float(counts[index]),
            bytes=update.bytes,
            round=update.base.round.number,
            **vars(figures[index] if figures else _UNKNOWN),
            kept=index in kept,
            steps=claims.contributors[index].training.steps,
            departures=departures[update.base.round.number].of(update.training),
        )
        for index, update in enumerate(updates)
    )


def withheld(told: Sequence[Contribution], updates: Sequence[Update]) -> tuple[Contribution, ...]:
    """Return what may be told of updates if nothing but their noisy sum is to be known.

    The size of a file depends on numbers in its header, and of an encoded one on its steps.
    """
    unknown = vars(_UNKNOWN)
    return tuple(
        replace(one, num_examples=None, bytes=update.values_bytes, steps=None, **unknown)
        for one, update in zip(told, updates, strict=True)
    )


def partial_contributions(
    updates: Sequence[Update], counts: Values
) -> tuple[PartialContribution, ...]:
    """Describe the partial means among the updates."""
    return tuple(
        PartialContribution(
            update.name,
            update.digest(),
            len(update.members),
            update.num_examples,
            float(counts[index]),
            update.bytes,
        )
        for index, update in enumerate(updates)
        if update.members
    )
