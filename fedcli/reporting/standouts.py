"""Clients whose updates stand out from those of the others: poisoned, broken, or just different.

Every update is compared with the median of its round, and the spread that counts as usual is the
median absolute deviation of the round: outliers move neither while they are fewer than half.
Nothing here accuses: a client whose data differs from everybody else's stands out as well.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from fedcli.formats.client_ids import client_order, natural_key
from fedcli.reporting.run_report import ClientRound, Note, RoundReport
from fedcli.reporting.words import named, rounds_named
from fedcli.strategies.claims import reachable

FEWEST = 4  # clients; among fewer, nobody can tell which is the odd one
FACTOR = 3.0  # times the median, above which a norm or a distance may stand out
AGAINST = -0.2  # cosine, below which an update may oppose the others
USUAL = 5.0  # median absolute deviations, 3.4 standard deviations of a normal distribution
CHANCE = 0.01  # probability of being left out this often by chance
NOTES = 10


@dataclass(frozen=True)
class Marks:
    """What stands out about one update.

    ``norm`` and ``distance`` are multiples of the median of the round. None means usual.
    """

    norm: float | None = None
    distance: float | None = None
    cosine: float | None = None
    empty: bool = False

    def __bool__(self) -> bool:
        """Return whether anything stands out."""
        return self != Marks()

    @property
    def words(self) -> str:
        """The marks as a table shows them."""
        found = ["changes nothing"] if self.empty else []
        if self.norm is not None:
            found.append(f"norm ×{factor(self.norm)}")
        if self.distance is not None:
            found.append(f"distance ×{factor(self.distance)}")
        if self.cosine is not None:
            found.append("opposes")
        return ", ".join(found)


def factor(value: float) -> str:
    """Write a multiple of the median."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}" if value < 1e4 else f"{value:.0e}"


def marks_of(round_: RoundReport) -> dict[str, Marks]:
    """Return the marks of every client that stands out in a round."""
    clients = round_.clients
    more = _longer(clients)
    norms = _far_above({c.client: c.norm for c in clients}, more)
    distances = _far_above({c.client: c.distance for c in clients}, more)
    against = _against({c.client: c.cosine for c in clients}, {*norms, *distances})
    empty = _empty(clients)
    marks = {
        c.client: Marks(
            norms.get(c.client), distances.get(c.client), against.get(c.client), c.client in empty
        )
        for c in clients
    }
    return {client: found for client, found in marks.items() if found}


def marks_over(rounds: Sequence[RoundReport]) -> dict[str, dict[int, Marks]]:
    """Return the marks of every client that stands out, by round.

    To oppose the others counts only in more than half of a client's measured rounds: where labels
    differ, an honest client opposes a step now and then, and one that turns its updates round does
    so in all.
    """
    marks = defaultdict[str, dict[int, Marks]](dict)
    measured = Counter(
        entry.client for round_ in rounds for entry in round_.clients if entry.cosine is not None
    )
    for round_ in rounds:
        for client, found in marks_of(round_).items():
            marks[client][round_.number] = found
    for client, own in marks.items():
        against = sum(found.cosine is not None for found in own.values())
        if 2 * against <= measured[client]:
            kept = {number: replace(found, cosine=None) for number, found in own.items()}
            marks[client] = {number: found for number, found in kept.items() if found}
    return {client: own for client, own in marks.items() if own}


def _longer(clients: Sequence[ClientRound]) -> dict[str, float]:
    """Return by which factor an honest update of each client may be longer than usual.

    It grows with the number of local steps if all lead the same way. Without steps, the number of
    examples says how many there may be, and the length grows with its square root. Claims count
    within their bounds: else a client could hide behind numbers that nobody can check.
    """
    steps = {client.client: float(client.steps) for client in clients if client.steps}
    if len(steps) == len(clients):
        return _times_the_median(steps)
    counts = {c.client: float(c.num_examples) for c in clients if c.num_examples}
    return {client: math.sqrt(more) for client, more in _times_the_median(counts).items()}


def _times_the_median(claimed: Mapping[str, float]) -> dict[str, float]:
    if not claimed:
        return {}
    used = reachable(np.array(list(claimed.values()))).tolist()
    middle = median(used)
    return {client: value / middle for client, value in zip(claimed, used, strict=True)}


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    known = {client: value for client, value in values.items() if value is not None}
    return known if len(known) >= FEWEST else {}


def _spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation."""
    middle = median(values)
    return median(abs(value - middle) for value in values)


def _far_above(values: Mapping[str, float | None], more: Mapping[str, float]) -> dict[str, float]:
    """Return, as multiples of the median, the values far above it.

    All bounds are on logarithms: if norms spread by factors, ``FACTOR`` alone is not unusual.
    ``more`` are the factors by which honest updates may be longer.
    """
    known = {client: value for client, value in _known(values).items() if value > 0}
    if len(known) < FEWEST:
        return {}
    logs = {client: math.log(value) for client, value in known.items()}
    middle = median(logs.values())
    bound = max(math.log(FACTOR), USUAL * _spread(list(logs.values())))
    return {
        client: math.exp(log - middle)
        for client, log in logs.items()
        if log - middle > bound + max(0.0, math.log(more.get(client, 1.0)))
    }


def _against(values: Mapping[str, float | None], far: Set[str]) -> dict[str, float]:
    """Return the negative cosines far below the median, if that is positive.

    If clients hold different labels, their updates are nearly orthogonal, and small negative
    cosines are as usual as small positive ones. If clients that are ``far`` from the others led
    the step, nobody opposes it.
    """
    known = _known(values)
    if not known:
        return {}
    middle = median(known.values())
    if middle <= 0 or any(known.get(client, 0.0) > middle for client in far):
        return {}
    bound = min(AGAINST, middle - USUAL * _spread(list(known.values())))
    return {client: value for client, value in known.items() if value < bound}


def _empty(clients: Sequence[ClientRound]) -> set[str]:
    """Return the clients whose update is their base model, unless they are half or more."""
    norms = _known({c.client: c.norm for c in clients})
    empty = {client for client, norm in norms.items() if norm == 0}
    return empty if 2 * len(empty) < len(norms) else set()


def left_out(rounds: Sequence[RoundReport]) -> dict[str, tuple[int, int]]:
    """Return the clients that the rule left out more often than chance: rounds left out, and all.

    Rules such as Multi-Krum leave somebody out in every round, and Krum all but one. Only rounds
    count in which the rule left out somebody, but at most half. The probability is Hoeffding's
    bound (1963, theorem 1) for a binomial distribution with the share of all clients.
    """
    out = defaultdict[str, list[bool]](list)
    for round_ in rounds:
        dropped = sum(not client.kept for client in round_.clients)
        if 0 < dropped <= len(round_.clients) / 2:
            for client in round_.clients:
                out[client.client].append(not client.kept)
    drops = [dropped for history in out.values() for dropped in history]
    usual = sum(drops) / len(drops) if drops else 0.0
    return {
        client: (sum(history), len(history))
        for client, history in out.items()
        if _by_chance(sum(history), len(history), usual) < CHANCE
    }


def _by_chance(hits: int, trials: int, usual: float) -> float:
    """Return an upper bound of the probability of at least this many hits."""
    share = hits / trials
    if share <= usual:
        return 1.0
    divergence = share * math.log(share / usual)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - usual))
    return math.exp(-trials * divergence)


def standout_notes(rounds: Sequence[RoundReport]) -> list[Note]:
    """Return a note for each client that stands out, those with the most rounds first.

    The last note names clients that do not stand out, but are often left out by the rule.
    """
    marks = marks_over(rounds)
    departed = defaultdict[str, set[int]](set)
    for round_ in rounds:
        for entry in round_.clients:
            if entry.departures:
                departed[entry.client].add(round_.number)
    dropped = left_out(rounds)
    ranked = sorted(marks, key=lambda client: (-len(marks[client]), natural_key(client)))
    notes = [
        Note(_sentence(c, marks[c], dropped.get(c), departed[c] & marks[c].keys()))
        for c in ranked[:NOTES]
    ]
    if more := ranked[NOTES:]:
        notes.append(Note(f"{named('client', more)} stand out too"))
    only = [client for client in client_order(dropped) if client not in marks]
    if only:
        shares = [f"client {c} in {dropped[c][0]} of {dropped[c][1]} rounds" for c in only[:NOTES]]
        more_of_them = f" and {len(only) - NOTES} more" if len(only) > NOTES else ""
        notes.append(Note(f"often left out by the rule: {', '.join(shares)}{more_of_them}"))
    return notes


def _sentence(
    client: str, marks: Mapping[int, Marks], dropped: tuple[int, int] | None, departed: Set[int]
) -> str:
    parts = [
        *_multiples("its update is {} times as long as the median", marks, "norm"),
        *_multiples("it lies {} times as far from the others as the median", marks, "distance"),
    ]
    if against := {n: m.cosine for n, m in marks.items() if m.cosine is not None}:
        cosine = f"cosine {_range(list(against.values()), '.2f')}"
        parts.append(f"it opposes the step of the others ({cosine}; {rounds_named(against)})")
    if empty := [number for number, found in marks.items() if found.empty]:
        parts.append(f"its update changes nothing ({rounds_named(empty)})")
    if dropped:
        parts.append(f"the rule left it out in {dropped[0]} of {dropped[1]} rounds")
    if departed:
        parts.append(f"it trained otherwise than planned ({rounds_named(departed)}), see below")
    return f"client {client} stands out: {'; '.join(parts)}"


def _multiples(text: str, marks: Mapping[int, Marks], name: str) -> list[str]:
    found = {n: value for n, m in marks.items() if (value := getattr(m, name)) is not None}
    if not found:
        return []
    low, high = factor(min(found.values())), factor(max(found.values()))
    factors = low if low == high else f"{low} to {high}"
    return [f"{text.format(factors)} ({rounds_named(found)})"]


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
