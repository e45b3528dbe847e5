"""Combine the updates of a round into the next global model."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.checkpoint import create
from fedcli.combining import Work, combine
from fedcli.deciding import decide
from fedcli.diagnostics import Diagnosis, diagnose
from fedcli.errors import ConflictError
from fedcli.manifest import Absence, Contribution, Manifest, PartialContribution
from fedcli.metadata import Kind, Metadata
from fedcli.participation import (
    Invitation,
    Participation,
    Quorum,
    participation,
    wait_for,
)
from fedcli.progress import Progress, Silence
from fedcli.run import Round, Run
from fedcli.server_state import open_state, state_layout, state_metadata
from fedcli.steps.aggregated import (
    LostStateError,
    check_replaceable,
    check_unchanged,
    restored_on_failure,
)
from fedcli.steps.members import Members, sort_members
from fedcli.strategies import Rule, resolve
from fedcli.strategies.combination import Weights
from fedcli.updates import NO_DIGEST, Base, Update, check_digest, open_updates, read_base


@dataclass(frozen=True)
class AggregateResult:
    """What ``aggregate`` did. ``path`` and ``sha256`` are the new global model's."""

    round: int
    path: Path
    sha256: str
    strategy: str
    reduce: str
    server_optimizer: str
    weighting: str
    options: dict[str, Any]
    clients: tuple[Contribution, ...]
    partials: tuple[PartialContribution, ...]
    missing: tuple[Absence, ...]
    late: tuple[Absence, ...]
    rejected: tuple[Absence, ...]
    bytes_read: int
    seconds: float
    already_done: bool


def aggregate(
    run: Run,
    *,
    round_number: int | None = None,
    options: Mapping[str, Any] | None = None,
    members: Sequence[str] = (),
    min_clients: int | None = None,
    wait: float = 0,
    exclude: Sequence[str] = (),
    diagnostics: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> AggregateResult:
    """Write the global model of a round: what a rule makes of its updates.

    ``options`` are the rule's, by their names in ``AggregatePlan``, where they differ from the
    run's plan. ``members`` names the only clients that count, and files of partial means. Every
    client that takes part has to have delivered; with ``min_clients`` that many are enough.
    ``wait`` is how many seconds to wait for those that have not. Sums run in float64, in client
    order, and are rounded once. The defaults are FedAvg (McMahan et al. 2017).

    Raises ``NotReadyError`` when updates are missing or too few for the rule, ``UpdateError``
    when one does not fit, ``ConflictError`` when the round is complete and was made from other
    inputs, ``UsageError`` for options that cannot be met, and ``StorageError``. After an error
    the round's directory holds what it held before.
    """
    progress = progress or Silence()
    typed = {key: value for key, value in (options or {}).items() if value is not None}
    plan = run.info.plan.aggregate.with_options(typed)
    rule = resolve(plan, typed.keys())
    round_ = run.training_round(round_number)
    chosen = sort_members(run, members, rule)
    invitation = Invitation(
        run,
        round_,
        plan,
        run.choose_clients(exclude, "--exclude") if exclude else (),
        chosen.clients,
        chosen.covered,
        rule.options.get("max_staleness"),
    )
    quorum = Quorum.of(invitation, rule, min_clients)
    if round_.global_model.exists():
        wait = 0  # nobody is missed any more
    taking_part = wait_for(lambda: participation(invitation), quorum.met, wait, progress)
    started = time.perf_counter()
    if round_.global_model.exists():
        try:
            same = check_unchanged(run, round_, rule, taking_part, chosen.partials)
            return _result(round_, same, already_done=True)
        except ConflictError as error:
            if not force:
                raise
            # The same inputs make the same model: it stays what later rounds were trained from.
            if not isinstance(error, LostStateError):
                check_replaceable(run, round_)
    quorum.check(taking_part)
    prepared = rule.reducer.prepare(len(taking_part.accepted) + len(chosen.partials), rule.options)
    rule = replace(rule, options=prepared)
    manifest = _write(run, round_, rule, taking_part, chosen, diagnostics, progress, started)
    return _result(round_, manifest)


def _write(
    run: Run,
    round_: Round,
    rule: Rule,
    taking_part: Participation,
    chosen: Members,
    diagnostics: bool,
    progress: Progress,
    started: float,
) -> Manifest:
    base = read_base(run, round_)
    bases = {round_.number: base}
    for number, _ in taking_part.accepted:
        if number not in bases:
            bases[number] = read_base(run, run.round(number))
    wanted = [(bases[number], client) for number, client in taking_part.accepted]
    partials = [chosen.partials[name] for name in sorted(chosen.partials)]
    with ExitStack() as stack:
        updates = stack.enter_context(open_updates(base, wanted, partials, rule.weighting))
        state = stack.enter_context(open_state(rule, base))
        combination, counts = decide(base, updates, rule, rule.options, state, progress)
        kept = [updates[index] for index in combination.kept]
        metadata = _metadata(base, updates)
        stack.enter_context(restored_on_failure(round_))
        model = stack.enter_context(create(round_.global_model, base.layout, metadata))
        layout, steps = state_layout(rule, base), state.steps + 1
        state_file = None
        if layout:
            described = state_metadata(rule, metadata, steps)
            state_file = stack.enter_context(create(round_.server_state, layout, described))
        combine(Work(base, rule, combination, kept, state), model, state_file, progress)
        clients = [update for update in updates if not update.members]
        for update in clients:
            check_digest(update)
        measured = diagnostics and clients
        figures = diagnose(base, clients, model, progress) if measured else []
        metadata = _metadata(base, updates, read=True)
        state_sha256 = None
        if state_file is not None:
            state_sha256 = state_file.finish(state_metadata(rule, metadata, steps))
        manifest = Manifest(
            round=round_.number,
            strategy=rule.strategy,
            reduce=rule.reduce,
            server_optimizer=rule.server_optimizer,
            weighting=rule.weighting,
            options=dict(rule.options),
            base=base.sha256,
            global_model=model.finish(metadata),
            server_state=state_sha256,
            sampled=taking_part.sampled,
            accepted=contributions(clients, counts, set(combination.kept), figures),
            partials=partial_contributions(updates, counts),
            missing=taking_part.missing,
            late=taking_part.late,
            rejected=taking_part.rejected,
            seconds=round(time.perf_counter() - started, 3),
        )
        manifest.write(round_.manifest)
    if not layout:
        round_.server_state.unlink(missing_ok=True)
    return manifest


def _metadata(base: Base, updates: Sequence[Update], *, read: bool = False) -> Metadata:
    """Describe the global model; before the updates are read, with digests as long as theirs."""
    digests = [(u, u.digest() if read else NO_DIGEST) for u in updates]
    partials = {update.name: sha256 for update, sha256 in digests if update.members}
    return Metadata(
        Kind.GLOBAL,
        base.run.id,
        round=base.round.number,
        num_examples=sum(update.num_examples for update in updates),
        base=base.sha256,
        roles=base.metadata.roles,
        seed=base.metadata.seed,
        updates={update.name: sha256 for update, sha256 in digests if not update.members},
        partials=partials or None,
    )


def contributions(
    updates: Sequence[Update], counts: Weights, kept: set[int], figures: Sequence[Diagnosis]
) -> tuple[Contribution, ...]:
    """Describe updates and what became of them; ``figures`` is empty where nobody measured."""
    unknown = Diagnosis(None, None, None)
    return tuple(
        Contribution(
            client=update.name,
            sha256=update.digest(),
            num_examples=update.num_examples,
            weight=float(counts[index]),
            bytes=update.bytes,
            round=update.base.round.number,
            **asdict(figures[index] if figures else unknown),
            kept=index in kept,
        )
        for index, update in enumerate(updates)
    )


def partial_contributions(
    updates: Sequence[Update], counts: Weights
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


def _result(round_: Round, manifest: Manifest, already_done: bool = False) -> AggregateResult:
    read = sum(entry.bytes for entry in manifest.accepted)
    read += sum(entry.bytes for entry in manifest.partials)
    return AggregateResult(
        round=round_.number,
        path=round_.global_model,
        sha256=manifest.global_model,
        strategy=manifest.strategy,
        reduce=manifest.reduce,
        server_optimizer=manifest.server_optimizer,
        weighting=manifest.weighting,
        options=manifest.options,
        clients=manifest.accepted,
        partials=manifest.partials,
        missing=manifest.missing,
        late=manifest.late,
        rejected=manifest.rejected,
        bytes_read=read,
        seconds=manifest.seconds,
        already_done=already_done,
    )
