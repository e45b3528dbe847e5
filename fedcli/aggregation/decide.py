"""Decide how a rule combines the updates of a round: by weights or by a function."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedcli.aggregation.base_model import CONTROL, Base
from fedcli.aggregation.diagnostics import Comparison
from fedcli.aggregation.distances import PanelDistances, check_distances_fit, check_gram_fits
from fedcli.aggregation.gram import FEW, gram_matrix, open_base_models, squared_norms
from fedcli.aggregation.panels import Panels
from fedcli.aggregation.server_state import ServerState
from fedcli.aggregation.updates import Update
from fedcli.algorithms import ALGORITHMS, LocalAlgorithm
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Values
from fedcli.formats.partition import PartitionFile
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.strategies import Rule
from fedcli.strategies.claims import Claims, Expected, bounded_claims
from fedcli.strategies.decision import (
    Clients,
    ClippedDecision,
    CoordinateWiseDecision,
    Decision,
    LinearDecision,
    Measures,
    Shares,
)
from fedcli.strategies.recorded import recorded_alike


def check_suited(base: Base, updates: Sequence[Update], rule: Rule) -> dict[str, float]:
    """Return the recorded values that the rule's server optimizer needs, the same in all updates.

    Raises ``UpdateError`` if the values differ, if the updates lack controls that it adds up,
    if they bring controls that it would ignore, or if they are too sparse for it.
    """
    _check_encodings(base, updates, rule)
    name, slots = rule.server_optimizer, rule.slots()
    controls = base.controls()
    if controls and CONTROL not in slots:
        raise UpdateError(
            f"its updates bring control variates, which the server optimizer {name} does not add"
            " up",
            hint=base.run.command(f"aggregate --strategy {_sender().strategy}"),
            path=base.round.path,
        )
    if CONTROL in slots and not controls:
        raise UpdateError(
            f"its updates bring no control variates, which the server optimizer {name} adds up",
            hint=f"updates made with train-client --algorithm {_sender().name} do;"
            f" {updates[0].remedies.again()}",
            path=base.round.path,
        )
    contributors = [update.contributor for update in updates]
    return {
        key: recorded_alike(name, contributors, key, how)
        for key, how in rule.optimizer.records.items()
    }


def _check_encodings(base: Base, updates: Sequence[Update], rule: Rule) -> None:
    sparse = [u for u in updates if u.codec is not None and u.codec.sparse]
    if sparse and rule.reducer.coordinate_wise:
        raise UpdateError(
            f"the update of client {sparse[0].name} is encoded as {sparse[0].codec}, without the"
            f" steps of most coordinates, and {rule.reduce} combines each coordinate alone: most"
            " would not move",
            hint=f"{base.run.command('aggregate --strategy rfa')} weighs whole updates; or train"
            " with an encoding of every coordinate, such as --encode int8",
            path=base.round.path,
        )


def _sender() -> type[LocalAlgorithm]:
    """Return the algorithm whose clients send control variates."""
    return next(row for row in ALGORITHMS.values() if row.reads == CONTROL)


def check_norms(base: Base, updates: Sequence[Update], most: float, progress: Progress) -> None:
    """Raise one ``UpdateError`` for all updates with |Δ| above ``most``.

    Reads all updates but not partial means, which have no norm.
    """
    clients = [update for update in updates if not update.members]
    norms = np.sqrt(squared_norms(base, clients, progress))
    errors = [
        update.error(f"training changed it by a norm of {norm:.4g}, above --max-norm {most:g}")
        for update, norm in zip(clients, norms, strict=True)
        if norm > most
    ]
    if errors:
        raise UpdateError.together(errors)


def decide(
    base: Base,
    updates: Sequence[Update],
    rule: Rule,
    claims: Claims,
    state: ServerState,
    progress: Progress,
    comparison: Comparison | None = None,
) -> tuple[Decision, Shares]:
    """Return a rule's decision, and the shares that it started from.

    Reads and hashes all updates if the rule needs norms or distances. Where it weighs few by their
    inner products, these complete the ``comparison``, if one is to be inferred. Raises
    ``OutOfMemoryError``, before that, for more pairs of updates than memory holds.
    """
    if rule.measures == Measures.DISTANCES and len(updates) > FEW:
        return _decide_by_distances(base, updates, rule, claims, progress)
    center = state.sources.get("center")
    gram, lengths = None, None
    if rule.measures >= Measures.DISTANCES:
        if len(updates) > FEW:
            check_gram_fits(rule.reduce, len(updates), ordered=rule.reducer.ordered)
        watch = comparison.watch if comparison is not None and len(updates) <= FEW else None
        gram = gram_matrix(base, updates, center, progress, watch)
        lengths = gram.diagonal()[: len(updates)].copy()
    elif rule.measures == Measures.SQUARES:
        lengths = squared_norms(base, updates, progress)
    shares = rule.weigher.weigh(claims.contributors, lengths, rule.options)
    infers = comparison is not None and gram is not None and len(updates) <= FEW
    kept = gram.copy() if gram is not None and infers else None
    clients = Clients(shares, lengths, gram, has_center=center is not None)
    decision = rule.reducer.decide(clients, rule.options)
    if comparison is not None and kept is not None:
        comparison.infer(kept, decision)
    return decision, shares


def _decide_by_distances(
    base: Base, updates: Sequence[Update], rule: Rule, claims: Claims, progress: Progress
) -> tuple[Decision, Shares]:
    check_distances_fit(rule.reduce, len(updates))
    with open_base_models(update.base for update in updates) as bases:
        distances = PanelDistances(Panels(base, updates, bases), progress)
        shares = rule.weigher.weigh(claims.contributors, None, rule.options)
        clients = Clients(shares, distances=distances)
        return rule.reducer.decide(clients, rule.options), shares


def claims_of(
    run: Run, updates: Sequence[Update], rule: Rule, max_examples: float | None
) -> Claims:
    """Return what updates claim, as far as it counts in this run.

    Bounds of claims that the rule does not multiply by are not listed.
    """
    plan = run.info.plan.train

    def known_examples() -> dict[str, int]:
        partition = PartitionFile.try_read(run.partition_file)
        return {} if partition is None else partition.examples_of_clients()

    expected = Expected(
        plan.batch_size,
        plan.epochs,
        plan.steps,
        max_examples,
        known_examples,
        robust=rule.reduce != "mean",
    )
    claims = bounded_claims([update.contributor for update in updates], expected)
    multiplied = rule.weigher.multiplies
    return replace(claims, bounded=tuple(o for o in claims.bounded if o.what in multiplied))


def takes_buffers_in(decision: Decision) -> bool:
    """Return whether the result has every client's buffers in it, rather than their median."""
    return isinstance(decision, LinearDecision) and not decision.median_buffers


def weights_of(decision: Decision, count: int) -> Values:
    """Return the weight of each of ``count`` updates.

    It is the update's coefficient in the result or, for a coordinate-wise rule, 1 over the number
    of kept updates. By how much a step was shortened is not told.
    """
    if isinstance(decision, ClippedDecision):
        return np.full(count, 1 / decision.divisor)
    if isinstance(decision, LinearDecision):
        return decision.shares.weights / decision.shares.divisor
    assert isinstance(decision, CoordinateWiseDecision)
    counts = np.zeros(count)
    counts[list(decision.kept)] = 1 / len(decision.kept)
    return counts
