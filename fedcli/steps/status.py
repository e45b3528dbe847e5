"""Read off a run's directory where it stands and what to do next."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.run import Round, Run
from fedcli.run_info import client_order


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    ``delivered`` and ``missing`` are clients of the open round. ``missing`` is empty in a run that
    was made without a list of clients. ``next`` is the command to type.
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
        evaluated=tuple(round_.number for round_ in complete if round_.evaluation.exists()),
        next=run.command(_next(run, complete[-1], delivered, missing)),
    )


def _next(run: Run, latest: Round, delivered: list[str], missing: list[str]) -> str:
    if delivered and missing:
        return f"train-client --id {','.join(missing)}" if len(missing) < 5 else _training(run)
    if delivered:
        return "aggregate"
    if latest.number > 0 and not latest.evaluation.exists() and run.test_shard.exists():
        return "evaluate"
    return _training(run)


def _training(run: Run) -> str:
    """Clients that hold their own data train one by one; simulated ones can all be named."""
    if not run.info.clients:
        return "train-client --id NAME --data PATH"
    if not run.client_shard(run.info.clients[0]).exists():
        return f"train-client --id {run.info.clients[0]} --data PATH"
    return "train-client --id all"
