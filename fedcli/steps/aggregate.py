"""Combine the updates of a round into the next global model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.decide import check_norms, check_suited, decide
from fedcli.aggregation.diagnostics import Diagnosis, diagnose
from fedcli.aggregation.existing_round import Inputs, already_made, check_unchanged, replacing
from fedcli.aggregation.provenance import contributions, made_of, not_read, partial_contributions
from fedcli.aggregation.quarantine import set_aside
from fedcli.aggregation.reduce import Work, combine
from fedcli.aggregation.request import Request, read_request
from fedcli.aggregation.server_state import ServerState, open_state, state_layout, state_metadata
from fedcli.aggregation.updates import Update, check_sources, open_updates
from fedcli.errors import (
    BadInputError,
    NotReadyError,
    OvertakenError,
    StorageError,
)
from fedcli.formats.checkpoint import CheckpointWriter, create
from fedcli.formats.manifest import Absence, Contribution, Manifest, PartialContribution
from fedcli.formats.metadata import Kind, Metadata
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.participation import Quorum, participation, wait_for
from fedcli.run.round import Round
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import coordinator_key, sign_global
from fedcli.storage.atomic import storage_errors
from fedcli.strategies.combination import Combination, Step, Weights


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
    strict: bool = False,
    key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> AggregateResult:
    """Write the global model of a round: what a rule makes of its updates.

    ``options`` are the rule's, by their names in ``AggregatePlan``, where they differ from the
    run's plan. ``members`` names the only clients that count, and files of partial means. Every
    client that takes part has to have delivered; with ``min_clients`` that many are enough.
    ``wait`` is how many seconds to wait for those that have not. A bad update is left where it is
    and out of the sum, with the reason in the manifest, where the others are enough; with
    ``strict``, and without ``min_clients`` or a buffer where the clients are known, it ends the
    step. ``key`` is the coordinator's, in a run whose global models are signed. Sums run in
    float64, in client order, and are rounded once. The defaults are FedAvg (McMahan et al. 2017).

    Raises ``NotReadyError`` when updates are missing or too few for the rule, ``UpdateError``
    when one does not fit, ``ConflictError`` when the round is complete and was made from other
    inputs, ``UsageError`` for options that cannot be met, and ``StorageError``. After an error
    the round's directory holds what it held before.
    """
    progress = progress or Silence()
    signing = coordinator_key(run, key)
    request = read_request(run, round_number, options, members, exclude)
    quorum = Quorum.of(request.invitation, request.rule, min_clients)
    inputs = _gather(request, quorum, wait, progress)
    if manifest := already_made(inputs, diagnostics=diagnostics, force=force):
        return _result(inputs.round, manifest, already_done=True)
    quorum.check(inputs.taking_part)
    while True:
        try:
            prepared = replace(inputs, rule=inputs.prepared_rule())
            made = write_round(prepared, diagnostics, progress, signing, force=force)
            return _result(inputs.round, made)
        except OvertakenError:
            return _result(inputs.round, check_unchanged(inputs), already_done=True)
        except (BadInputError, StorageError) as error:
            left = None if strict else set_aside(inputs, quorum, error, progress)
            if left is None:
                raise
            inputs = left


def _gather(request: Request, quorum: Quorum, wait: float, progress: Progress) -> Inputs:
    """Wait for the updates, unless the round is complete, where nobody is missed any more."""
    invitation, rule = request.invitation, request.rule
    if invitation.round.global_model.exists():
        wait = 0
    else:  # what no waiting can make up for is a UsageError
        with suppress(NotReadyError):
            quorum.check(participation(invitation))
        with suppress(NotReadyError):
            rule.reducer.prepare(len(invitation.run.info.clients), rule.options)
    seen = wait_for(lambda: participation(invitation), quorum.met, wait, progress)
    limits = invitation.plan.limits
    return Inputs(invitation.run, invitation.round, rule, seen, request.partials, limits)


@dataclass(frozen=True)
class Decision:
    """The opened inputs of a round, how the rule combines them, and what each of them counts.

    ``recorded`` is what all clients recorded alike for the server optimizer.
    """

    inputs: Inputs
    base: Base
    updates: list[Update]
    state: ServerState
    recorded: Mapping[str, float]
    combination: Combination
    counts: Weights

    @property
    def work(self) -> Work:
        """What is to be computed."""
        kept = [self.updates[index] for index in self.combination.kept]
        rule = self.inputs.rule
        replaces = rule.replaces(self.recorded)
        return Work(self.base, rule, self.combination, kept, self.state, self.step, replaces)

    @property
    def step(self) -> Step:
        """Which step it is that the server takes."""
        everybody = len(self.inputs.run.info.clients)
        present = sum(update.contributor.clients for update in self.updates)
        return Step(self.state.steps + 1, present / everybody if everybody else 1.0)

    @property
    def clients(self) -> list[Update]:
        """The updates that are no partial means; they come first."""
        return [update for update in self.updates if not update.members]

    def metadata(self, digest_of: Callable[[Update], str]) -> Metadata:
        """Describe the global model."""
        return made_of(Kind.GLOBAL, self.base, self.updates, digest_of)

    def manifest(
        self, figures: Sequence[Diagnosis], model: str, state: str | None, seconds: float
    ) -> Manifest:
        """Describe everything; ``model`` and ``state`` are the SHA-256s of what was written."""
        rule, taking_part = self.inputs.rule, self.inputs.taking_part
        kept = set(self.combination.kept)
        return Manifest(
            round=self.inputs.round.number,
            strategy=rule.strategy,
            reduce=rule.reduce,
            server_optimizer=rule.server_optimizer,
            weighting=rule.weighting,
            options=dict(rule.options),
            base=self.base.sha256,
            global_model=model,
            server_state=state,
            sampled=taking_part.sampled,
            accepted=contributions(self.clients, self.counts, kept, figures),
            partials=partial_contributions(self.updates, self.counts),
            missing=taking_part.missing,
            late=taking_part.late,
            rejected=taking_part.rejected,
            seconds=round(seconds, 3),
            limits=dict(self.inputs.limits),
        )


@contextmanager
def _decided(inputs: Inputs, progress: Progress) -> Iterator[Decision]:
    rule, accepted = inputs.rule, inputs.taking_part.accepted
    files = [inputs.partials[name] for name in sorted(inputs.partials)]
    most = inputs.limits.get("max_examples")
    with open_updates(inputs.run, inputs.round, accepted, files, rule.weighting, most) as opened:
        base, updates = opened.base, opened.updates
        if "max_norm" in inputs.limits:
            check_norms(base, updates, inputs.limits["max_norm"], progress)
        recorded = check_suited(base, updates, rule)
        with open_state(rule, base, recorded) as state:
            combination, counts = decide(base, updates, rule, rule.options, state, progress)
            yield Decision(inputs, base, updates, state, recorded, combination, counts)


@dataclass(frozen=True)
class Outputs:
    """The files that are being written; ``state`` is None where the server keeps nothing."""

    model: CheckpointWriter
    state: CheckpointWriter | None


@contextmanager
def _create(decision: Decision, *, replace: bool) -> Iterator[Outputs]:
    """Start the files; they appear at the end, the model, which commits the round, last."""
    round_, rule, base = decision.inputs.round, decision.inputs.rule, decision.base
    metadata = decision.metadata(not_read)
    with create(round_.global_model, base.whole, metadata, replace=replace) as model:
        if not (layout := state_layout(rule, base)):
            yield Outputs(model, None)
            return
        described = state_metadata(rule, decision.recorded, metadata, decision.step.number)
        with create(round_.server_state, layout, described) as state:
            yield Outputs(model, state)


def write_round(
    inputs: Inputs,
    diagnostics: bool,
    progress: Progress,
    signing: SigningKey | None = None,
    *,
    force: bool = False,
) -> Manifest:
    """Combine the inputs, whoever decided on them, and write the round, signed with a key if any.

    Raises ``UpdateError``, ``BadInputError``, ``NotReadyError``, ``StorageError``, and, unless
    ``force`` is to replace it, ``OvertakenError`` where a global model is there.
    """
    started = time.perf_counter()
    with (
        _decided(inputs, progress) as decision,
        ExitStack() as undoing,
        _create(decision, replace=force) as outputs,
    ):
        combine(decision.work, outputs.model, outputs.state, progress)
        clients = decision.clients
        check_sources(clients)
        measured = diagnostics and clients
        figures = diagnose(decision.base, clients, outputs.model, progress) if measured else []
        metadata, state = decision.metadata(Update.digest), None
        if outputs.state is not None:
            described = state_metadata(
                inputs.rule, decision.recorded, metadata, decision.step.number
            )
            state = outputs.state.finish(described)
        model = outputs.model.finish(metadata)
        outputs.model.flush()
        undoing.enter_context(replacing(inputs, model, force=force))
        for update in decision.updates:
            update.values.check_in_place()
        manifest = decision.manifest(figures, model, state, time.perf_counter() - started)
        manifest.write(inputs.round.manifest)
        if signing is not None:
            sign_global(inputs.run, inputs.round, model, state, signing)
        if state is None:
            with storage_errors("remove", inputs.round.server_state):
                inputs.round.server_state.unlink(missing_ok=True)
    return manifest


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
