"""What the private rounds of a run have spent, as ε after each round."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedcli.errors import FedcliError
from fedcli.formats.ledger import PrivacyEvent
from fedcli.privacy import epsilon_at
from fedcli.reporting.run_report import Note, RoundReport
from fedcli.run import Run
from fedcli.run.spending import (
    USUAL_DELTA,
    Source,
    Spending,
    bounded,
    spending_of_clients,
    spending_of_sums,
)

_MOST_ROUNDS = 20  # of samples, each of which takes a fraction of a second
_MOST_CLIENTS = 3  # in a round, which may have spent most
_EXACT = 60.0  # digits of exp that a float holds, with room

Events = Sequence[PrivacyEvent]


def with_epsilon(
    run: Run, rounds: Sequence[RoundReport]
) -> tuple[tuple[RoundReport, ...], list[Note]]:
    """Return rounds with ε so far, of examples and of clients, and notes that say what it is.

    Only what this run spent counts. Without ``dp-accounting``, or with a ledger that cannot be
    used, ε is left out, and a note says so.
    """
    notes: list[Note] = []
    for level in (_examples, _clients):
        try:
            rounds, said = level(run, tuple(rounds))
            notes += said
        except FedcliError as error:
            hint = f": {error.hint}" if error.hint else ""
            notes.append(Note(f"ε is left out of this report: {error.message}{hint}"))
    return tuple(rounds), notes


def _examples(
    run: Run, rounds: tuple[RoundReport, ...]
) -> tuple[tuple[RoundReport, ...], list[Note]]:
    clients = [one for one in spending_of_clients(run) if one.latest(run.id)]
    if not clients:
        return rounds, []
    delta = run.info.plan.train.delta or USUAL_DELTA
    found = {
        number: max(epsilon_at(one, delta) for one in _heaviest(run, clients, number))
        for number in _chosen([round_.number for round_ in rounds])
    }
    whole = all(one.source == Source.LEDGER for one in clients)
    by = "by the ledgers here" if whole else "by what the updates here say, without replaced ones"
    note = _said("example", found, delta, by)
    filled = (replace(one, epsilon=_at(found, one.number)) for one in rounds)
    return tuple(filled), note


def _clients(
    run: Run, rounds: tuple[RoundReport, ...]
) -> tuple[tuple[RoundReport, ...], list[Note]]:
    spent = spending_of_sums(run)
    if not spent.spent:
        return rounds, []
    delta = run.info.plan.aggregate.update_delta or USUAL_DELTA
    found = {one.number: epsilon_at(spent.events(run.id, one.number), delta) for one in rounds}
    note = _said("client", found, delta, "by the manifests")
    filled = (replace(one, epsilon_clients=_at(found, one.number)) for one in rounds)
    return tuple(filled), note


def _at(found: dict[int, float], number: int) -> float | None:
    return bounded(found[number]) if number in found else None


def _said(whom: str, found: dict[int, float], delta: float, by: str) -> list[Note]:
    last = found[max(found)]
    if math.isinf(last):
        return [Note(f"no {whom} is protected: there is no noise, and ε has no bound")]
    return [Note(f"each {whom} is protected by ε = {last:.3g} at δ = {delta:g}, {by}")]


def _chosen(numbers: Sequence[int]) -> list[int]:
    """Return some of many rounds, evenly, the first and the last one among them."""
    if len(numbers) <= _MOST_ROUNDS:
        return [*numbers]
    step = (len(numbers) - 1) / (_MOST_ROUNDS - 1)
    return [numbers[round(step * index)] for index in range(_MOST_ROUNDS)]


def _heaviest(run: Run, clients: Iterable[Spending], number: int) -> Sequence[Events]:
    """Return the events, up to a round, of the clients that may have spent most.

    They are ranked by the limit of many samples (Bu et al. 2020), Σ q² (exp(1/σ²) − 1), as
    computing ε for each of a thousand clients would take minutes.
    """
    different = {
        frozenset(Counter(events).items()): events
        for one in clients
        if (events := one.events(run.id, number))
    }
    return sorted(different.values(), key=_weight, reverse=True)[:_MOST_CLIENTS] or [[]]


def _weight(events: Events) -> float:
    return math.fsum(event.count * event.q**2 * _growth(event.sigma) for event in events)


def _growth(sigma: float) -> float:
    return math.expm1(min(_EXACT, sigma**-2 if sigma > 1e-9 else _EXACT))
