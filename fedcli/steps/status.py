"""Read off a run's directory where it stands and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.advice import evaluate_command, train_command
from fedcli.errors import UsageError
from fedcli.run import Round, Run
from fedcli.run_info import client_order
from fedcli.sampling import sampled_clients


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    ``sampled``, ``delivered`` and ``missing`` are clients of ``round``: those that are to take
    part, those whose update is there, and those of ``sampled`` whose update is not. Where the run
    was made without a list of clients, nobody is sampled or missing. ``evaluated`` are rounds,
    round 0 not among them. ``next`` is the command to type.
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
    evaluated: tuple[int, ...]
    next: str


def status(run: Run, round_number: int | None = None) -> Status:
    """Return where a run stands, and who takes part in a round, by default the open one.

    Raises ``NotReadyError`` when its starting model is missing and ``UsageError`` for a round
    below 1; a round to come can be asked for.
    """
    if round_number is not None and round_number < 1:
        raise UsageError(f"--round: expected 1 or more, found {round_number}")
    complete = run.complete_rounds()
    open_round = run.open_round()
    round_ = open_round if round_number is None else run.round(round_number)
    delivered, missing = _taking_part(run, round_)
    return Status(
        run=run.root,
        id=run.id,
        dataset=run.info.dataset.name,
        classes=len(run.info.dataset.classes),
        model=run.info.model.name,
        clients=run.info.clients,
        open_round=open_round.number,
        round=round_.number,
        sampled=sampled_clients(run.info, round_.number),
        delivered=delivered,
        missing=missing,
        evaluated=tuple(r.number for r in complete[1:] if r.evaluation.exists()),
        next=_next(run, complete[-1], *_taking_part(run, open_round)),
    )


def _taking_part(run: Run, round_: Round) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who has delivered and who is missing."""
    delivered = round_.delivered()
    sampled = sampled_clients(run.info, round_.number)
    return tuple(delivered), tuple(client_order(set(sampled) - set(delivered)))


def _next(run: Run, latest: Round, delivered: Sequence[str], missing: Sequence[str]) -> str:
    if delivered and not missing:
        return run.command("aggregate")
    if not delivered and latest.number > 0 and not latest.evaluation.exists():
        return evaluate_command(run)
    return train_command(run, missing)
