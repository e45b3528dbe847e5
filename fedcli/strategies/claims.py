"""Claims: what participants say about themselves, and how far it may count.

Nobody can check a client's number of examples or steps, and rules multiply by them. So a claim
counts at most ``MOST`` times the median of what the others claim, from three clients on; the steps
count at most what follows from the examples, the epochs and the size of a batch. A claim that the
server can check itself, or that a person vouches for, needs no comparison with the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedcli.formats.dtypes import Values
from fedcli.formats.manifest import BoundedClaim
from fedcli.strategies.decision import Contributor

MOST = 10  # times the others' median; a hospital may well have several times their examples
FEWEST = 3  # clients; of two, nobody can tell which one exaggerates


@dataclass(frozen=True)
class Expected:
    """What a server knows about the training of its clients without their word.

    ``known_examples`` returns the numbers of examples that a partition gave to clients.
    ``max_examples`` is the largest number that a person vouches for. ``epochs``, ``steps`` (in
    place of epochs) and ``batch_size`` are those of the plan. A ``robust`` rule fails once a client
    has half of the weight.
    """

    batch_size: int
    epochs: int
    steps: int | None = None
    max_examples: float | None = None
    known_examples: Callable[[], Mapping[str, int]] = dict
    robust: bool = False


@dataclass(frozen=True)
class Claims:
    """The contributors as far as their claims count, and the claims that were bounded."""

    contributors: tuple[Contributor, ...]
    bounded: tuple[BoundedClaim, ...]


def upper_rank(count: int) -> int:
    """Return the rank of the upper median of ``count - 1`` values.

    With the lower one, a minority that claims next to nothing could bound the claims of the others.
    """
    return (count - 1) // 2


def of_the_others(values: Values, rank: Callable[[int], int] = upper_rank) -> Values:
    """Return, for each of n values (n,), the median of the n - 1 others; ∞ if n < 3.

    Of an even number of others it is the value of ``rank``, by default the upper one.
    """
    count = len(values)
    if count < FEWEST:
        return np.full(count, np.inf)
    order, middle = np.argsort(values, kind="stable"), rank(count)
    result = np.full(count, values[order[middle]], np.float64)
    result[order[: middle + 1]] = values[order[middle + 1]]
    return result


def reachable(values: Values) -> Values:
    """Return claimed values (n,) as far as they count beside the others'."""
    return np.minimum(values, MOST * of_the_others(values))


def _lower_rank(count: int) -> int:
    return (count - 2) // 2


def within_reach(
    clients: Sequence[Contributor], what: str, values: Sequence[float], *, both: bool = False
) -> tuple[Values, tuple[BoundedClaim, ...]]:
    """Bound claimed values by ``MOST`` times the others' median, with ``both`` below too.

    Return the values that count, float64 (n,), and the claims that were bounded.
    """
    claimed = np.array(values, np.float64)
    used = reachable(claimed)
    if both and len(claimed) >= FEWEST:
        used = np.maximum(used, of_the_others(claimed, _lower_rank) / MOST)
    return used, _changed(clients, what, claimed, used)


def _changed(
    clients: Sequence[Contributor], what: str, claimed: Values, used: Values
) -> tuple[BoundedClaim, ...]:
    return tuple(
        BoundedClaim(client.name, what, before, now)
        for client, before, now in zip(clients, claimed.tolist(), used.tolist(), strict=True)
        if before != now
    )


def bounded_claims(clients: Sequence[Contributor], expected: Expected) -> Claims:
    """Return the contributors with the examples and steps that count.

    Partial means are left as they are: their values are weighted already. So are numbers of
    examples that are withheld.
    """
    single = [client for client in clients if client.clients == 1]
    examples, too_many = _bounded_examples(single, expected)
    counted = [_with_examples(one, examples.get(one.name)) for one in single]
    steps, too_long = _bounded_steps(counted, expected)
    by_name = {
        client.name: _with_steps(client, number)
        for client, number in zip(counted, steps, strict=True)
    }
    result = (client if client.clients > 1 else by_name[client.name] for client in clients)
    return Claims(tuple(result), (*too_many, *too_long))


def _with_examples(client: Contributor, number: int | None) -> Contributor:
    # a copy of what most clients leave alone would be the memory of all
    return client if client.num_examples == number else replace(client, num_examples=number)


def _with_steps(client: Contributor, number: int | None) -> Contributor:
    if client.training.steps == number:
        return client
    return replace(client, training=replace(client.training, steps=number))


def _bounded_examples(
    clients: Sequence[Contributor], expected: Expected
) -> tuple[dict[str, int], tuple[BoundedClaim, ...]]:
    """Return the numbers of examples that count, by client, and the claims that were bounded."""
    told = [client for client in clients if client.num_examples is not None]
    used = {client.name: client.num_examples or 0 for client in told}
    claimed = np.array(list(used.values()), np.float64)
    limits = MOST * of_the_others(claimed)
    if expected.robust and len(told) >= FEWEST:
        counted = np.minimum(claimed, limits)
        limits = np.minimum(limits, (counted.sum() - counted) / 2)  # a third of the weight
    if expected.max_examples is not None:
        limits = np.maximum(limits, expected.max_examples)
    known = expected.known_examples() if (claimed > limits).any() else {}
    for index in np.flatnonzero(claimed > limits).tolist():
        name = told[index].name
        used[name] = min(used[name], max(1, known.get(name, math.floor(limits[index]))))
    return used, _changed(told, "num_examples", claimed, np.array(list(used.values()), np.float64))


def _bounded_steps(
    clients: Sequence[Contributor], expected: Expected
) -> tuple[list[int | None], tuple[BoundedClaim, ...]]:
    """Bound the steps by the plan, or where a client records another training, by that.

    Another training than the plan's is bounded by the others as well, and so is one of examples
    whose number is withheld.
    """
    told = [client for client in clients if client.training.steps is not None]
    claimed = np.array([client.training.steps for client in told], np.float64)
    limits = MOST * of_the_others(claimed)
    used = np.array(
        [
            min(steps, max(_planned(client, expected), min(_recorded(client, steps), limit)))
            for client, steps, limit in zip(told, claimed.tolist(), limits.tolist(), strict=True)
        ],
        np.float64,
    )
    bounded = _changed(told, "steps", claimed, used)
    less = {claim.client: max(0, int(claim.used)) for claim in bounded}
    return [less.get(client.name, client.training.steps) for client in clients], bounded


def _planned(client: Contributor, expected: Expected) -> float:
    if expected.steps is not None:
        return float(expected.steps)
    if client.num_examples is None:
        return 0.0
    return float(expected.epochs * math.ceil(client.num_examples / expected.batch_size))


def _recorded(client: Contributor, steps: float) -> float:
    """Return the steps that follow from the epochs and the batch size that a client records."""
    epochs, batch_size = client.training.epochs, client.training.get("batch_size")
    if epochs is None or type(batch_size) is not int or batch_size < 1:
        return steps
    if client.num_examples is None:
        return steps
    return float(epochs * math.ceil(client.num_examples / batch_size))
