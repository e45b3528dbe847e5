"""The opened inputs of a round, the rule's decision, and what both say in its files."""

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
from fedcli.aggregation.diagnostics import Comparison, Diagnosis
from fedcli.aggregation.downlink import Downlink
from fedcli.aggregation.existing_round import Inputs
from fedcli.aggregation.private_round import PrivateDecision, decide_privately
from fedcli.aggregation.provenance import (
    combined_metadata,
    contributions,
    partial_contributions,
    withheld,
)
from fedcli.aggregation.reduce import Work
from fedcli.aggregation.round_privacy import is_private, options_of
from fedcli.aggregation.server_state import ServerState, open_state, state_metadata
from fedcli.aggregation.updates import Update
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.dtypes import is_float
from fedcli.formats.ledger import Ledger
from fedcli.formats.made_from import MadeFrom
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.progress import Progress
from fedcli.strategies.claims import Claims
from fedcli.strategies.decision import Decision, LinearDecision, Step
from fedcli.system import processor_name, versions


@dataclass(frozen=True)
class RoundFiles:
    """The unpublished files; ``state`` is None if the server keeps nothing.

    ``delta`` is None if the model is sent as it is, and until the model is finished.
    """

    model: CheckpointWriter
    state: CheckpointWriter | None
    delta: CheckpointWriter | None = None

    def finish(self, opened: "OpenRound") -> None:
        """Write the headers, which name the updates that were read."""
        metadata = opened.metadata(Update.digest)
        if self.state is not None:
            self.state.finish(opened.state_metadata(metadata))
        self.model.finish(metadata)


@dataclass(frozen=True)
class OpenRound:
    """The opened inputs of a round, and the rule's decision.

    ``recorded`` holds the values for the server optimizer on which all clients agree, ``claims``
    what updates claim as far as it counts, ``limits`` those of their buffers. ``private`` is None
    unless the plan protects clients, ``comparison`` if updates are not compared.
    """

    inputs: Inputs
    base: Base
    updates: list[Update]
    state: ServerState
    recorded: Mapping[str, float]
    decision: Decision
    claims: Claims
    limits: BufferLimits = NO_LIMITS
    private: PrivateDecision | None = None
    comparison: Comparison | None = None

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
        found = combined_metadata(Kind.GLOBAL, self.base, self.updates, digest_of)
        if (made := MadeFrom.named_in(found)) is not None:
            found = made.written_to(found, named=self.inputs.names_all)
        if self.is_private:
            found = replace(found, num_examples=None)
        return found if self.private is None else replace(found, clip=self.private.clip)

    @property
    def is_private(self) -> bool:
        """Whether files must not tell what depends on single clients."""
        return is_private(self.inputs.privacy)

    def state_metadata(self, model: Metadata) -> Metadata:
        """Describe the server state that goes with a global model."""
        return state_metadata(self.inputs.rule, self.recorded, model, self.step.number)

    def manifest(
        self, figures: Sequence[Diagnosis], outputs: RoundFiles, seconds: float
    ) -> Manifest:
        """Describe the round; ``outputs`` are finished."""
        rule = self.inputs.rule
        taking_part, unlisted = self.inputs.taking_part.listed(self.inputs.run.info.clients)
        kept, counts = set(self.decision.kept), weights_of(self.decision, len(self.updates))
        accepted = contributions(self.clients, self.claims, counts, kept, figures)
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
            accepted=withheld(accepted, self.clients) if self.is_private else accepted,
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
            client_level=dict(options_of(self.inputs.privacy)),
            privacy=() if self.private is None else Ledger().merged(self.private.spent).entries,
        )

    def _remarks(self) -> tuple[str, ...]:
        if self.private is not None and self.private.remark is not None:
            return (self.private.remark,)
        if not isinstance(self.decision, LinearDecision) or self.decision.settled:
            return ()
        rule = self.inputs.rule
        return (f"{rule.reduce} has not settled after --iterations {rule.options['iterations']}",)


@contextmanager
def open_round(inputs: Inputs, progress: Progress, diagnostics: bool) -> Iterator[OpenRound]:
    """Open the inputs and decide. Raises what ``write_round`` does."""
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
            clients = [update for update in updates if not update.members]
            compared = diagnostics and clients and not is_private(inputs.privacy)
            comparison = Comparison(base, clients) if compared else None
            if inputs.privacy is not None:
                private = decide_privately(inputs.privacy, base, updates, inputs.options, progress)
                parts = (inputs, base, updates, state, recorded, private.decision, claims)
                yield OpenRound(*parts, private=private, comparison=comparison)
                return
            known = clients == updates and _is_known(inputs, base, recorded)
            inferred = comparison if known else None
            decision, shares = decide(base, updates, rule, claims, state, progress, inferred)
            claims = replace(claims, bounded=(*claims.bounded, *shares.bounded))
            limits = NO_LIMITS
            if takes_buffers_in(decision):
                limits = buffer_limits(base, updates, controls="max_norm" in inputs.limits)
            found_all = (inputs, base, updates, state, recorded, decision, claims, limits)
            yield OpenRound(*found_all, comparison=comparison)


def _is_known(inputs: Inputs, base: Base, recorded: Mapping[str, float]) -> bool:
    """Return whether the global model will take the reducer's step, as good as exactly."""
    wide = all(info.dtype.itemsize >= 4 for info in base.layout.values() if is_float(info.dtype))
    return wide and not inputs.downlink and inputs.rule.replaces(recorded)
