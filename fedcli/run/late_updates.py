"""Updates that arrive after their round is complete."""

from collections.abc import Sequence

from fedcli.plan.rule import resolve
from fedcli.run.directory import Run
from fedcli.run.next_command import train_command
from fedcli.run.round import Round
from fedcli.run.used_updates import origin_of


def is_late(run: Run, round_: Round, client: str, sha256: str) -> bool:
    """Return whether a round is complete without this update, and no later model used it either.

    A model that hides its updates may have used it. Raises ``StorageError``.
    """
    if not round_.global_model.exists():
        return False
    since = (origin_of(one) for one in run.complete_rounds() if one.number >= round_.number)
    return not any(made is None or made.updates.get(client) == sha256 for made in since)


def was_left_out(run: Run, number: int, client: str, now: int) -> bool:
    """Return whether an update of an earlier round is in no model before round ``now``, for good.

    Where the headers of the models do not tell, it is assumed to be in one.
    """
    for between in range(number, now):
        made = origin_of(run.round(between))
        if made is None or made.partials:
            return False
        if client in made.updates and made.late.get(client, between) == number:
            return False
    most = _max_staleness(run)
    return most is None or now - number > most


def late_advice(run: Run, number: int, clients: Sequence[str]) -> str:
    """Explain what happens to late updates of a round, and what their clients can do."""
    whose = ", ".join(clients)
    late = f"late: round {number} was complete when this arrived: the update of client {whose}"
    now = run.open_round().number
    most, rounds = _max_staleness(run), now - number
    if most is not None and rounds <= most:
        by = f"{rounds} round{'s' if rounds > 1 else ''}"
        return f"{late} is kept, and counts in round {now}, for which it is {by} late"
    again = train_command(run, clients)
    return f"{late} is kept, and counts in no round; to take part in round {now}: {again}"


def _max_staleness(run: Run) -> int | None:
    """Return by how many rounds an update may be late; None if late ones do not count."""
    plan = run.info.plan.aggregate
    if plan.reduce is not None and ":" in plan.reduce:
        return None  # a user's own function, which is not asynchronous and must not run here
    staleness = resolve(plan).options.get("max_staleness")
    return None if staleness is None else int(staleness)
