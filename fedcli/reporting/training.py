"""How the clients of a run trained: the plan, and where clients left it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedcli.algorithms import ALGORITHMS
from fedcli.options import option_of
from fedcli.plan import TrainPlan
from fedcli.plan.departures import planned
from fedcli.reporting.model import ClientRound, Note, RoundReport
from fedcli.reporting.words import named, rounds_named

_NOTES = 10


def training_of(plan: TrainPlan, rounds: Sequence[RoundReport]) -> dict[str, Any]:
    """Return the options of training in the latest round that was trained.

    An option in which all its clients left the plan alike has their value; one in which only some
    did has the plan's, and a note names them.
    """
    last = next((round_ for round_ in reversed(rounds) if round_.number > 0), None)
    number = last.number if last else 1
    values = planned(plan, number)
    for key, value in _shared_departures(last.clients if last else ()).items():
        values[key] = value
    return {key: value for key, value in values.items() if value is not None}


def _shared_departures(clients: Sequence[ClientRound]) -> dict[str, Any]:
    if not clients:
        return {}
    first = clients[0].departures
    return {
        key: value
        for key, value in first.items()
        if all(key in one.departures and one.departures[key] == value for one in clients)
    }


def algorithm_label(training: Mapping[str, Any]) -> str:
    """Return the local algorithm with its own options: ``fedprox (mu 0.1)``."""
    name = str(training.get("algorithm", "fedavg"))
    row = ALGORITHMS.get(name)
    options = {} if row is None else row().options
    shown = [f"{key} {_value(training.get(key, value))}" for key, value in options.items()]
    if training.get("proximal"):
        shown.append(f"proximal {_value(training['proximal'])}")
    return f"{name} ({', '.join(shown)})" if shown else name


def departure_notes(plan: TrainPlan, rounds: Sequence[RoundReport]) -> list[Note]:
    """Return a note for all clients that left the plan alike, with the plan's values and theirs."""
    alike = defaultdict[str, dict[str, list[int]]](dict)
    for round_ in rounds:
        for client in round_.clients:
            if client.departures:
                text = _departures(plan, client)
                alike[text].setdefault(client.client, []).append(round_.number)
    notes = []
    for text, clients in alike.items():
        when = rounds_named(number for numbers in clients.values() for number in numbers)
        notes.append(Note(f"{named('client', list(clients))} left the plan in {when}: {text}"))
    if more := notes[_NOTES:]:
        notes[_NOTES:] = [Note(f"{len(more)} more departures from the plan are in --json")]
    return notes


def _departures(plan: TrainPlan, client: ClientRound) -> str:
    values = planned(plan, client.update_round)
    return ", ".join(
        f"{option_of(key)} {_value(own)} (plan: {_value(values.get(key))})"
        for key, own in client.departures.items()
    )


def _value(value: Any) -> str:
    if value is None or value == ():
        return "off"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def bound_notes(rounds: Sequence[RoundReport]) -> list[Note]:
    """Return a note for each claim that rounds bounded, with all rounds in which they did."""
    found = defaultdict[tuple[str, str], dict[int, float]](dict)
    for round_ in rounds:
        for one in round_.bounded:
            found[one.client, one.what][round_.number] = one.found
    notes = [
        Note(
            f"client {client}: {what} {max(values.values(), key=abs):.6g} counted only within a"
            f" bound ({rounds_named(values)})"
        )
        for (client, what), values in found.items()
    ]
    if more := notes[_NOTES:]:
        notes[_NOTES:] = [Note(f"{len(more)} more bounded claims are in --json")]
    return notes
