"""Report the state of a run and what to do next."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.errors import BadInputError, UsageError
from fedcli.masking.progress import MaskedProgress
from fedcli.run import Run
from fedcli.run.active_run import ActiveRun, read_active_run
from fedcli.run.heartbeat import Training, read_training
from fedcli.run.sampling import sampled_clients
from fedcli.run.spending import PrivacyStatus, privacy_status
from fedcli.run.traffic import Traffic, traffic
from fedcli.steps.deliveries import Deliveries, Refusal
from fedcli.steps.next_step import ClientStep, at_clients, at_coordinator, next_step
from fedcli.system import rare_collection


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


@rare_collection()
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
    now = Deliveries.of(run, plan, open_round)
    asked = now if round_ == open_round else Deliveries.of(run, plan, round_)
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
        next=None if waits else next_step(now),
        at_clients=() if waits else at_clients(now),
        at_coordinator=None if waits else at_coordinator(now),
        traffic=_traffic(run) if open_round.number == 1 else None,
        masked=asked.masked,
    )


def _traffic(run: Run) -> Traffic | None:
    with suppress(BadInputError):  # whoever reads the starting model says what is wrong with it
        return traffic(run)
    return None
