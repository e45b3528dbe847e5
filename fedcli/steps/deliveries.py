"""Who has delivered for a round, whose updates do not count, and who is still to deliver."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedcli.aggregation.admission import refusals
from fedcli.errors import NotReadyError, UpdateError
from fedcli.formats.manifest import Absence
from fedcli.masking.delivered import masked_refusals
from fedcli.masking.progress import MaskedProgress, masked_progress
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.run.heartbeat import read_training
from fedcli.run.info import client_order
from fedcli.run.participation import Invitation, Participation, participation
from fedcli.run.quorum import Quorum
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients
from fedcli.strategies import Rule


@dataclass(frozen=True)
class Refusal:
    """An update that does not count: why, and what to do about it (None: nothing)."""

    client: str
    path: Path
    reason: str
    hint: str | None


@dataclass(frozen=True)
class Deliveries:
    """The updates of a round: ``seen`` are those that count, without the bad ones."""

    run: Run
    plan: AggregatePlan
    round: Round
    rule: Rule | None
    invitation: Invitation
    seen: Participation
    refused: tuple[Refusal, ...]
    masked: MaskedProgress | None

    @classmethod
    def of(cls, run: Run, plan: AggregatePlan, round_: Round) -> "Deliveries":
        """Read the headers of a round's updates, of the clients that ``plan`` samples."""
        # a user's own function is not asynchronous, and must not run here
        own = plan.reduce is not None and ":" in plan.reduce
        rule = None if own else resolve(plan)
        staleness = None if rule is None else rule.options.get("max_staleness")
        invitation = Invitation(run, round_, plan, max_staleness=staleness)
        seen, refused = _checked(invitation, participation(invitation))
        masked = masked_progress(run, round_)
        return cls(run, plan, round_, rule, invitation, seen, refused, masked)

    @cached_property
    def delivered(self) -> tuple[str, ...]:
        """The clients of the updates that count."""
        return tuple(client for number, client in self.seen.accepted if number == self.round.number)

    @cached_property
    def _sampled(self) -> frozenset[str]:
        return frozenset(sampled_clients(self.run.info, self.round.number, self.plan))

    @cached_property
    def bad(self) -> tuple[str, ...]:
        """The sampled clients with an update that cannot be used."""
        gone = {one.client for one in self.refused} - set(self.delivered)
        return tuple(client_order(gone & self._sampled))

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The sampled clients without an update."""
        return tuple(client_order(self._sampled - {*self.delivered, *self.bad}))

    @cached_property
    def wanted(self) -> list[str]:
        """The clients whose update, or whose good update, is not there."""
        return client_order([*self.missing, *self.bad])

    @cached_property
    def idle(self) -> list[str]:
        """Those of ``wanted`` who are not training."""
        training = {one.client for one in read_training(self.round) if one.state == "training"}
        return [client for client in self.wanted if client not in training]

    @property
    def buffer_is_full(self) -> bool:
        """Whether an asynchronous round has its updates, including late ones."""
        if self.rule is None or not self.rule.weigher.asynchronous:
            return False
        return Quorum.of(self.invitation, self.rule, None).met(self.seen)


def _checked(
    invitation: Invitation, seen: Participation
) -> tuple[Participation, tuple[Refusal, ...]]:
    """Leave out the updates that ``aggregate`` would refuse, as far as headers tell."""
    run = invitation.run
    refused = [
        Refusal(one.client, run.round(one.round).update(one.client), one.reason, None)
        for one in seen.rejected
        if one.round is not None
    ]
    bad: list[Absence] = []
    if seen.accepted:
        places = {run.round(number).update(c): (number, c) for number, c in seen.accepted}
        with suppress(NotReadyError):  # an old round, whose base model was deleted
            for error in _errors(invitation, seen):
                if error.path not in places:
                    continue
                number, client = places[error.path]
                bad.append(Absence(client, error.reason, number))
                refused.append(Refusal(client, error.path, error.reason, error.hint))
    return seen.without(bad), tuple(refused)


def _errors(invitation: Invitation, seen: Participation) -> Sequence[UpdateError]:
    run, round_ = invitation.run, invitation.round
    if run.info.plan.secagg is not None:
        return masked_refusals(run, round_, seen.clients)
    return refusals(run, round_, seen.accepted, invitation.plan.max_examples)
