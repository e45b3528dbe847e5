"""Write a round: the next global model, the server state and the manifest."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fedcli.aggregation.admission import open_updates
from fedcli.aggregation.base_model import Base
from fedcli.aggregation.buffer_limits import NO_LIMITS, BufferLimits, buffer_limits
from fedcli.aggregation.decide import (
    check_norms,
    check_suited,
    claims_of,
    decide,
    takes_buffers_in,
    weights_of,
)
from fedcli.aggregation.diagnostics import Diagnosis, diagnose
from fedcli.aggregation.downlink import RESIDUAL, Downlink, EncodedStep, encode_step
from fedcli.aggregation.existing_round import Inputs, check_free
from fedcli.aggregation.provenance import (
    combined_metadata,
    contributions,
    digest_placeholder,
    partial_contributions,
)
from fedcli.aggregation.reduce import Work, reduce_updates
from fedcli.aggregation.server_state import (
    ServerState,
    open_state,
    read_slot,
    state_layout,
    state_metadata,
)
from fedcli.aggregation.updates import Update, check_sources
from fedcli.formats.checkpoint import CheckpointWriter, create, prepare
from fedcli.formats.delta import delta_metadata
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.progress import Progress
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import sign_global
from fedcli.storage.atomic import storage_errors
from fedcli.storage.commit import locked
from fedcli.strategies.claims import Claims
from fedcli.strategies.decision import Decision, LinearDecision, Step
from fedcli.system import processor_name, versions


@dataclass(frozen=True)
class OpenRound:
    """The opened inputs of a round, and the rule's decision.

    ``recorded`` holds the values for the server optimizer on which all clients agree, ``claims``
    what updates claim as far as it counts, ``limits`` those of their buffers.
    """

    inputs: Inputs
    base: Base
    updates: list[Update]
    state: ServerState
    recorded: Mapping[str, float]
    decision: Decision
    claims: Claims
    limits: BufferLimits

    @property
    def work(self) -> Work:
        """The work to do."""
        return Work(
            base=self.base,
            rule=self.inputs.rule,
            decision=self.decision,
            updates=self.updates,
            state=self.state,
            step=self.step,
            replaces=self.inputs.rule.replaces(self.recorded),
            limits=self.limits,
        )

    @property
    def step(self) -> Step:
        """The server's next step."""
        everybody = len(self.inputs.run.info.clients)
        present = sum(update.contributor.clients for update in self.updates)
        return Step(self.state.steps + 1, present / everybody if everybody else 1.0)

    @property
    def downlink(self) -> Downlink | None:
        """How the step to the model is encoded."""
        return Downlink.of(self.inputs.downlink)

    @property
    def clients(self) -> list[Update]:
        """The updates without the partial means, which come last."""
        return [update for update in self.updates if not update.members]

    def metadata(self, digest_of: Callable[[Update], str]) -> Metadata:
        """Describe the global model."""
        return combined_metadata(Kind.GLOBAL, self.base, self.updates, digest_of)

    def state_metadata(self, model: Metadata) -> Metadata:
        """Describe the server state that goes with a global model."""
        return state_metadata(self.inputs.rule, self.recorded, model, self.step.number)

    def manifest(
        self, figures: Sequence[Diagnosis], outputs: "RoundFiles", seconds: float
    ) -> Manifest:
        """Describe the round; ``outputs`` are finished."""
        rule = self.inputs.rule
        taking_part, unlisted = self.inputs.taking_part.listed(self.inputs.run.info.clients)
        kept, counts = set(self.decision.kept), weights_of(self.decision, len(self.updates))
        return Manifest(
            round=self.inputs.round.number,
            strategy=rule.strategy,
            reduce=rule.reduce,
            server_optimizer=rule.server_optimizer,
            weighting=rule.weighting,
            options=dict(rule.options),
            base=self.base.sha256,
            global_model=outputs.model.sha256,
            server_state=outputs.state.sha256 if outputs.state else None,
            sampled=taking_part.sampled,
            accepted=contributions(self.clients, self.claims, counts, kept, figures),
            partials=partial_contributions(self.updates, counts),
            missing=taking_part.missing,
            late=taking_part.late,
            rejected=taking_part.rejected,
            seconds=round(seconds, 3),
            limits=dict(self.inputs.limits),
            unlisted=unlisted,
            bounded=(*self.claims.bounded, *self.limits.bounded),
            remarks=self._remarks(),
            versions=versions(),
            processor=processor_name(),
            downlink=dict(self.inputs.downlink),
            delta=outputs.delta.sha256 if outputs.delta else None,
        )

    def _remarks(self) -> tuple[str, ...]:
        if not isinstance(self.decision, LinearDecision) or self.decision.settled:
            return ()
        rule = self.inputs.rule
        return (f"{rule.reduce} has not settled after --iterations {rule.options['iterations']}",)


@contextmanager
def _open(inputs: Inputs, progress: Progress) -> Iterator[OpenRound]:
    rule, accepted = inputs.rule, inputs.taking_part.accepted
    files = [inputs.partials[name] for name in sorted(inputs.partials)]
    most = inputs.limits.get("max_examples")
    with open_updates(inputs.run, inputs.round, accepted, files, rule.weighting, most) as found:
        base, updates = found.base, found.updates
        if "max_norm" in inputs.limits:
            check_norms(base, updates, inputs.limits["max_norm"], progress)
        recorded = check_suited(base, updates, rule)
        with open_state(rule, base, recorded) as state:
            claims = claims_of(inputs.run, updates, rule, most)
            decision, shares = decide(base, updates, rule, claims, state, progress)
            claims = replace(claims, bounded=(*claims.bounded, *shares.bounded))
            limits = NO_LIMITS
            if takes_buffers_in(decision):
                limits = buffer_limits(base, updates, controls="max_norm" in inputs.limits)
            yield OpenRound(inputs, base, updates, state, recorded, decision, claims, limits)


@dataclass(frozen=True)
class RoundFiles:
    """The unpublished files; ``state`` is None if the server keeps nothing.

    ``delta`` is None if the model is sent as it is, and until the model is finished.
    """

    model: CheckpointWriter
    state: CheckpointWriter | None
    delta: CheckpointWriter | None = None

    def finish(self, opened: OpenRound) -> None:
        """Write the headers, which name the updates that were read."""
        metadata = opened.metadata(Update.digest)
        if self.state is not None:
            self.state.finish(opened.state_metadata(metadata))
        self.model.finish(metadata)


@contextmanager
def _create(opened: OpenRound, *, replace: bool) -> Iterator[RoundFiles]:
    """Create the unpublished files."""
    round_, rule, base = opened.inputs.round, opened.inputs.rule, opened.base
    metadata = opened.metadata(digest_placeholder)
    with create(round_.global_model, base.whole, metadata, replace=replace) as model:
        left = {} if opened.downlink is None else opened.downlink.kept(base)
        if not (layout := state_layout(rule, base, left)):
            yield RoundFiles(model, None)
            return
        described = opened.state_metadata(metadata)
        with create(round_.server_state, layout, described) as state:
            yield RoundFiles(model, state)


def write_round(
    inputs: Inputs,
    diagnostics: bool,
    progress: Progress,
    signing: SigningKey | None = None,
    *,
    force: bool = False,
) -> Manifest:
    """Combine the inputs and write the round, signed if a key is given.

    Raises ``UpdateError``, ``BadInputError``, ``NotReadyError``, ``StorageError``, and without
    ``force`` ``OvertakenError`` if a global model exists.
    """
    started = time.perf_counter()
    with _open(inputs, progress) as opened, _create(opened, replace=force) as outputs:
        reduce_updates(opened.work, outputs.model, outputs.state, progress)
        check_sources(opened.clients)
        step = _encoded(opened, outputs)
        measured = diagnostics and opened.clients
        figures = diagnose(opened.base, opened.clients, outputs.model, progress) if measured else []
        outputs.finish(opened)
        with _with_delta(opened, outputs, step) as files:
            manifest = opened.manifest(figures, files, time.perf_counter() - started)
            _commit(opened, files, manifest, signing, force=force)
    return manifest


def _encoded(opened: OpenRound, outputs: RoundFiles) -> EncodedStep | None:
    """Encode the step to the model, if the plan says so; the model becomes the decoded one."""
    base, downlink = opened.base, opened.downlink
    if downlink is None:
        return None
    before, _ = read_slot(base.run, base.round.number, RESIDUAL) if downlink.feedback else ({}, "")
    step = encode_step(downlink, base, outputs.model, before)
    for name, values in step.residual.items():
        assert outputs.state is not None
        outputs.state.write(values, outputs.state.layout[name].start)
    return step


@contextmanager
def _with_delta(
    opened: OpenRound, outputs: RoundFiles, step: EncodedStep | None
) -> Iterator[RoundFiles]:
    """Add the delta of the finished model."""
    if step is None:
        yield outputs
        return
    metadata = delta_metadata(opened.metadata(Update.digest), step.codec, outputs.model.sha256)
    with prepare(opened.inputs.round.delta, step.tensors, metadata) as delta:
        yield replace(outputs, delta=delta)


def _commit(
    opened: OpenRound,
    outputs: RoundFiles,
    manifest: Manifest,
    signing: SigningKey | None,
    *,
    force: bool,
) -> None:
    """Write manifest, signature and state, then the model, as the only writer of the round."""
    run, round_ = opened.inputs.run, opened.inputs.round

    def write() -> None:
        for update in opened.updates:
            update.values.check_in_place()
        manifest.write(round_.manifest)
        if signing is not None:
            sign_global(run, round_, manifest.global_model, manifest.server_state, signing)
        for path, file in ((round_.delta, outputs.delta), (round_.server_state, outputs.state)):
            if file is not None:
                file.publish()
                continue
            with storage_errors("remove", path):
                path.unlink(missing_ok=True)

    outputs.model.flush()  # so that publishing is quick
    with locked(round_.path):  # else two writers could mix their files
        replaces = check_free(opened.inputs, manifest.global_model, force=force)
        beside = (round_.delta, round_.server_state)
        companions = (*beside, round_.global_signature, round_.manifest)
        outputs.model.commit(companions, write, replaces=replaces)
