"""How the clients of a run trained: the plan, and where clients left it."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fedcli.algorithms import ALGORITHMS
from fedcli.formats.client_ids import client_order
from fedcli.options import option_of
from fedcli.plan import TrainPlan
from fedcli.plan.departures import planned
from fedcli.reporting.run_report import ClientRound, Note, RoundReport
from fedcli.reporting.words import named, rounds_named

_NOTES = 10


class Departure(NamedTuple):
    """An option in which a client left the plan, with its own value and the plan's, in words."""

    option: str
    own: str
    planned: str


def training_of(plan: TrainPlan, rounds: Sequence[RoundReport]) -> dict[str, Any]:
    """Return the options of training in the latest round that was trained.

    An option in which all its clients left the plan alike has their value; one in which only some
    did has the plan's, and a note names them.
    """
    last = next((round_ for round_ in reversed(rounds) if round_.number > 0), None)
    number = last.number if last else 1
    values = planned(plan, number)
    for key, value in shared_departures(last.clients if last else ()).items():
        values[key] = value
    return {key: value for key, value in values.items() if value is not None}


def shared_departures(clients: Sequence[ClientRound]) -> dict[str, Any]:
    """Return the options in which all clients of a round left the plan alike, with their values."""
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
    shown = [f"{key} {value_named(training.get(key, value))}" for key, value in options.items()]
    if training.get("proximal"):
        shown.append(f"proximal {value_named(training['proximal'])}")
    return f"{name} ({', '.join(shown)})" if shown else name


def departure_notes(plan: TrainPlan, rounds: Sequence[RoundReport]) -> list[Note]:
    """Return a note for all clients that left the plan alike, with the plan's values and theirs.

    Values that change from round to round, such as those of a schedule, are one note if the same
    clients, or all of each round, left the plan in the same options.
    """
    alike: dict[tuple[Departure, ...], dict[str, list[int]]] = {}
    for round_ in rounds:
        for client in round_.clients:
            if client.departures:
                clients = alike.setdefault(_departures(plan, client), {})
                clients.setdefault(client.client, []).append(round_.number)
    everyone = {round_.number: len(round_.clients) for round_ in rounds}
    merged: dict[Hashable, list[tuple[tuple[Departure, ...], dict[str, list[int]]]]] = {}
    for found, clients in alike.items():
        by_round = Counter(number for numbers in clients.values() for number in numbers)
        all_of_them = all(count == everyone[number] for number, count in by_round.items())
        who: Hashable = None if all_of_them else tuple(clients)
        merged.setdefault((who, *(one.option for one in found)), []).append((found, clients))
    notes = [Note(_departed(group)) for group in merged.values()]
    if more := notes[_NOTES:]:
        notes[_NOTES:] = [Note(f"{len(more)} more departures from the plan are in --json")]
    return notes


def _departures(plan: TrainPlan, client: ClientRound) -> tuple[Departure, ...]:
    values = planned(plan, client.update_round)
    return tuple(
        Departure(option_of(key), value_named(own), value_named(values.get(key)))
        for key, own in client.departures.items()
    )


def _departed(group: Sequence[tuple[tuple[Departure, ...], dict[str, list[int]]]]) -> str:
    who = client_order({client for _, clients in group for client in clients})
    when = rounds_named(n for _, clients in group for numbers in clients.values() for n in numbers)
    options = (
        f"{same[0].option} {_span(one.own for one in same)}"
        f" (plan: {_span(one.planned for one in same)})"
        for same in zip(*(found for found, _ in group), strict=True)
    )
    return f"{named('client', who)} left the plan in {when}: {', '.join(options)}"


def _span(values: Iterable[str]) -> str:
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else f"{different[0]} to {different[-1]}"


def value_named(value: Any) -> str:
    """Write the value of an option as messages do; None is off."""
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
