"""Report the state of a run and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.run.heartbeat import Training, read_training
from fedcli.run.info import client_order
from fedcli.run.next_command import (
    aggregate_command,
    evaluate_command,
    sampling_words,
    train_command,
)
from fedcli.run.participation import Invitation, Quorum, participation
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients

_WAIT = 3600  # seconds, in the command that waits for clients that are training


@dataclass(frozen=True)
class Status:
    """The state of a run.

    ``sampled``, ``delivered`` and ``missing`` are clients of ``round``: those sampled, those whose
    update exists, and those of ``sampled`` whose update does not. In a run without a list of
    clients, nobody is sampled or missing. ``training`` lists running and stopped trainings of the
    round, ``evaluated`` rounds with scores, without round 0. ``next`` is the command to type.
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
    training: tuple[Training, ...]
    evaluated: tuple[int, ...]
    next: str


def status(
    run: Run, round_number: int | None = None, sampling: Mapping[str, Any] | None = None
) -> Status:
    """Return the state of a run, and who takes part in a round, by default the open one.

    ``sampling`` overrides the sampling of the run's plan, by the names in ``AggregatePlan``. The
    round may lie in the future. Raises ``NotReadyError`` when the starting model is missing and
    ``UsageError`` for a round below 1.
    """
    if round_number is not None and round_number < 1:
        raise UsageError(f"--round: expected 1 or more, found {round_number}")
    complete = run.complete_rounds()
    open_round = run.open_round()
    round_ = open_round if round_number is None else run.round(round_number)
    plan = run.info.plan.aggregate.with_options(sampling or {})
    delivered, missing = _taking_part(run, plan, round_)
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
        delivered=delivered,
        missing=missing,
        training=read_training(round_),
        evaluated=tuple(r.number for r in complete[1:] if r.evaluation.exists()),
        next=_next(run, plan, open_round, *_taking_part(run, plan, open_round)),
    )


def _taking_part(
    run: Run, plan: AggregatePlan, round_: Round
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who has delivered and who is missing."""
    delivered = round_.delivered()
    sampled = sampled_clients(run.info, round_.number, plan)
    return tuple(delivered), tuple(client_order(set(sampled) - set(delivered)))


def _next(
    run: Run,
    plan: AggregatePlan,
    open_round: Round,
    delivered: Sequence[str],
    missing: Sequence[str],
) -> str:
    latest = run.round(open_round.number - 1)
    if (delivered and not missing) or _buffer_is_full(run, plan):
        return aggregate_command(run, sampling_words(run, plan))
    if not delivered and latest.number > 0 and not latest.evaluation.exists():
        return evaluate_command(run)
    training = {each.client for each in read_training(open_round) if each.state == "training"}
    idle = [client for client in missing if client not in training]
    if missing and not idle:
        return aggregate_command(run, f" --wait {_WAIT}{sampling_words(run, plan)}")
    return train_command(run, idle, plan=plan)


def _buffer_is_full(run: Run, plan: AggregatePlan) -> bool:
    """Return whether an asynchronous round has its updates, including late ones."""
    if plan.reduce is not None and ":" in plan.reduce:
        return False  # a user's own function, which is not asynchronous and must not run here
    rule = resolve(plan)
    if not rule.weigher.asynchronous:
        return False
    staleness = rule.options["max_staleness"]
    invitation = Invitation(run, run.open_round(), plan, max_staleness=staleness)
    return Quorum.of(invitation, rule, None).met(participation(invitation))
