"""Report the state of a run and what to do next."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedcli.aggregation.admission import refusals
from fedcli.errors import BadInputError, NotReadyError, UpdateError, UsageError
from fedcli.formats.manifest import Absence
from fedcli.masking.delivered import masked_refusals
from fedcli.masking.progress import MaskedProgress, masked_progress
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.run.active_run import ActiveRun, read_active_run
from fedcli.run.heartbeat import Training, read_training
from fedcli.run.info import client_order
from fedcli.run.next_command import (
    WAIT,
    aggregate_command,
    close_command,
    evaluate_command,
    sampling_words,
    train_command,
    unmask_command,
)
from fedcli.run.participation import Invitation, Participation, Quorum, participation
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients
from fedcli.run.spending import PrivacyStatus, privacy_status
from fedcli.run.traffic import Traffic, traffic
from fedcli.strategies import Rule


@dataclass(frozen=True)
class Refusal:
    """An update that does not count: why, and what to do about it (None: nothing)."""

    client: str
    path: Path
    reason: str
    hint: str | None


@dataclass(frozen=True)
class ClientStep:
    """What to type where the data of a client is."""

    client: str
    command: str


@dataclass(frozen=True)
class Status:
    """The state of a run.

    ``sampled``, ``delivered`` and ``missing`` are clients of ``round``: those sampled, those whose
    update ``aggregate`` would accept by its header and its signature, and those of ``sampled`` who
    have not delivered. ``refused`` lists the other updates. In a run without a list of clients,
    nobody is sampled or missing. ``training`` lists running and stopped trainings of the round,
    ``active`` the last ``fedcli run`` that did not end by itself, ``evaluated`` rounds with scores,
    without round 0. ``next`` is the command to type; None while ``fedcli run`` is active. If
    clients train where their data is, ``at_clients`` has their commands, and ``at_coordinator``
    what to type meanwhile where the updates arrive. ``traffic`` is what the first round will
    exchange; None afterwards, when the report knows. ``masked`` says who has answered the list of a
    masked round, and who has not; None if updates are not masked. ``privacy`` is what was spent, if
    that was asked for and anything is private.
    """

    run: Path
    id: str
    dataset: str
    classes: int
    model: str
    clients: tuple[str, ...]
    open_round: int
    round: int
    sampled: tuple[str, ...]
    delivered: tuple[str, ...]
    missing: tuple[str, ...]
    refused: tuple[Refusal, ...]
    training: tuple[Training, ...]
    active: ActiveRun | None
    evaluated: tuple[int, ...]
    next: str | None
    at_clients: tuple[ClientStep, ...]
    at_coordinator: str | None
    traffic: Traffic | None
    masked: MaskedProgress | None
    privacy: PrivacyStatus | None = None


def status_with_privacy(
    run: Run,
    round_number: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    *,
    delta: float | None = None,
    directory: Path | None = None,
) -> Status:
    """Return the state of a run, and what it has spent of its privacy.

    ``delta`` is the δ at which ε is computed, by default that of the plan; ``directory`` is the
    folder of ``--state`` with the ledgers. Raises what ``status`` and ``privacy_status`` do.
    """
    found = status(run, round_number, sampling)
    return replace(found, privacy=privacy_status(run, delta=delta, directory=directory))


def status(
    run: Run, round_number: int | None = None, sampling: Mapping[str, Any] | None = None
) -> Status:
    """Return the state of a run, and who takes part in a round, by default the open one.

    ``sampling`` overrides the sampling of the run's plan, by the names in ``AggregatePlan``. The
    round may lie in the future. Raises ``NotReadyError`` when the starting model is missing,
    ``UsageError`` for a round below 1, and ``BadInputError`` for updates whose base model is bad.
    """
    if round_number is not None and round_number < 1:
        raise UsageError(f"--round: expected 1 or more, found {round_number}")
    complete = run.complete_rounds()
    open_round = run.open_round()
    round_ = open_round if round_number is None else run.round(round_number)
    plan = run.info.plan.aggregate.with_options(sampling or {})
    now = _Deliveries.of(run, plan, open_round)
    asked = now if round_ == open_round else _Deliveries.of(run, plan, round_)
    active = read_active_run(run)
    waits = active is not None and active.is_active
    return Status(
        run=run.root,
        id=run.id,
        dataset=run.info.dataset.name,
        classes=len(run.info.dataset.classes),
        model=run.info.model.name,
        clients=run.info.clients,
        open_round=open_round.number,
        round=round_.number,
        sampled=sampled_clients(run.info, round_.number, plan),
        delivered=asked.delivered,
        missing=asked.missing,
        refused=asked.refused,
        training=read_training(round_),
        active=active,
        evaluated=tuple(r.number for r in complete[1:] if r.evaluation.exists()),
        next=None if waits else _next(now),
        at_clients=() if waits else _at_clients(now),
        at_coordinator=None if waits or run.is_simulation else _at_coordinator(now),
        traffic=_traffic(run) if open_round.number == 1 else None,
        masked=asked.masked,
    )


def _traffic(run: Run) -> Traffic | None:
    with suppress(BadInputError):  # whoever reads the starting model says what is wrong with it
        return traffic(run)
    return None


@dataclass(frozen=True)
class _Deliveries:
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
    def of(cls, run: Run, plan: AggregatePlan, round_: Round) -> "_Deliveries":
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


def _next(now: _Deliveries) -> str:
    if (command := _at_hand(now)) is not None:
        return command
    if now.wanted and _meets_elsewhere(now):
        return now.run.command(f"pull --wait {WAIT}")
    return _wait(now) if now.wanted and not now.idle else _train(now, now.idle)


def _meets_elsewhere(now: _Deliveries) -> bool:
    """Return whether updates come from the remote that the run names, and not from data here."""
    run, idle = now.run, now.idle
    is_coordinator = run.info.remote is not None and not run.copy_file.exists()
    return is_coordinator and not any(run.client_shard(client).exists() for client in idle)


def _at_hand(now: _Deliveries) -> str | None:
    """Return the command that needs no further update; None if there is none."""
    latest = now.run.round(now.round.number - 1)
    if now.masked is not None and (now.masked.survivors or (now.delivered and not now.wanted)):
        return _masked_step(now.run, now.masked)
    if (now.delivered and not now.wanted) or now.buffer_is_full:
        return aggregate_command(now.run, sampling_words(now.run, now.plan))
    nobody = not now.delivered and not now.bad
    if nobody and latest.number > 0 and not latest.evaluation.exists():
        return evaluate_command(now.run)
    return None


def _masked_step(run: Run, masked: MaskedProgress) -> str:
    """Return what a round needs whose masked updates are there, or whose list is signed."""
    if masked.survivors is None:
        return close_command(run)
    return aggregate_command(run) if masked.is_ready else unmask_command(run, masked.waiting[0])


def _wait(now: _Deliveries) -> str:
    if now.masked is not None:
        return close_command(now.run)
    return aggregate_command(now.run, f" --wait {WAIT}{sampling_words(now.run, now.plan)}")


def _at_coordinator(now: _Deliveries) -> str:
    return _at_hand(now) or _wait(now)


def _train(now: _Deliveries, clients: Sequence[str]) -> str:
    """Return the command that trains clients; existing bad updates are to be replaced first."""
    unusable = set(now.bad)
    bad = [client for client in clients if client in unusable]
    if bad and now.run.client_shard(bad[0]).exists():
        return f"{train_command(now.run, bad, plan=now.plan)} --force"
    return train_command(now.run, clients, plan=now.plan)


def _at_clients(now: _Deliveries) -> tuple[ClientStep, ...]:
    run = now.run
    if run.is_simulation:
        return ()
    if now.masked is not None and now.masked.survivors is not None:
        waiting = () if now.masked.is_ready else now.masked.waiting
        return tuple(ClientStep(member, unmask_command(run, member)) for member in waiting)
    return tuple(ClientStep(client, train_command(run, [client])) for client in now.idle)
