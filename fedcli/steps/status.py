"""Read off a run's directory where it stands and what to do next."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.advice import evaluate_command, train_command
from fedcli.run import Round, Run
from fedcli.run_info import client_order


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    ``delivered`` and ``missing`` are clients of the open round. ``missing`` is empty in a run that
    was made without a list of clients. ``evaluated`` are rounds, round 0 not among them. ``next``
    is the command to type.
    """

    run: Path
    id: str
    dataset: str
    classes: int
    model: str
    clients: tuple[str, ...]
    open_round: int
    delivered: tuple[str, ...]
    missing: tuple[str, ...]
    evaluated: tuple[int, ...]
    next: str


def status(run: Run) -> Status:
    """Return where a run stands. Raises ``NotReadyError`` when its starting model is missing."""
    complete = run.complete_rounds()
    open_round = run.open_round()
    delivered = open_round.delivered()
    missing = client_order(set(run.info.clients) - set(delivered))
    return Status(
        run=run.root,
        id=run.id,
        dataset=run.info.dataset.name,
        classes=len(run.info.dataset.classes),
        model=run.info.model.name,
        clients=run.info.clients,
        open_round=open_round.number,
        delivered=tuple(delivered),
        missing=tuple(missing),
        evaluated=tuple(r.number for r in complete[1:] if r.evaluation.exists()),
        next=_next(run, complete[-1], delivered, missing),
    )


def _next(run: Run, latest: Round, delivered: list[str], missing: list[str]) -> str:
    if delivered and not missing:
        return run.command("aggregate")
    if not delivered and latest.number > 0 and not latest.evaluation.exists():
        return evaluate_command(run)
    return train_command(run, missing)
