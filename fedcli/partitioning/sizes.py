"""Quantity skew: clients have different numbers of examples, regardless of labels."""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedcli.errors import UsageError
from fedcli.options import Option
from fedcli.partitioning.pool import Cut, Labels, Pool, Rng

Weights = NDArray[np.float64]


def _exponentials(values: Weights) -> Weights:
    # Subtracting the maximum changes no share and prevents overflow.
    weights: Weights = np.exp(values - values.max())
    return weights


# Functions of the number of clients, sigma and a generator; sizes are proportional to the result.
QUANTITIES: dict[str, Callable[[int, float, Rng], Weights]] = {
    "even": lambda clients, sigma, rng: np.ones(clients),
    "linear": lambda clients, sigma, rng: np.arange(1.0, clients + 1),
    "square": lambda clients, sigma, rng: np.square(np.arange(1.0, clients + 1)),
    "exponential": lambda clients, sigma, rng: _exponentials(np.arange(1.0, clients + 1)),
    "log-normal": lambda clients, sigma, rng: _exponentials(rng.normal(0.0, sigma, clients)),
}


TO_A_MILLION = 1e6

MinSize = Annotated[int, Option("Least number of examples of a client.", "N", at_least=1)]
Quantity = Annotated[
    str, Option(f"How sizes grow: `{'`, `'.join(QUANTITIES)}`.", "NAME", choices=QUANTITIES)
]
Sizes = Annotated[
    tuple[int, ...],
    Option("The sizes themselves, such as `100,200,700`, one for each client.", "LIST", at_least=1),
]
LogDeviation = Annotated[
    float,
    Option(
        "With `--quantity log-normal`, the standard deviation of the logarithm of the sizes.",
        "S",
        above=0,
        at_most=TO_A_MILLION,
    ),
]


def quantity(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    quantity: Quantity = "linear",
    sizes: Sizes = (),
    sigma: LogDeviation = 0.3,
    min_size: MinSize = 1,
) -> Cut:
    """Give each client its number of examples, drawn at random; see ``client_sizes``."""
    wanted, repaired = client_sizes(
        len(pool.labels),
        clients,
        rng,
        quantity=quantity,
        sizes=sizes,
        sigma=sigma,
        min_size=min_size,
    )
    dealt = rng.permutation(len(pool.labels))[: wanted.sum()]
    return Cut(np.split(dealt, np.cumsum(wanted)[:-1]), repaired)


def client_sizes(
    total: int,
    clients: int,
    rng: Rng,
    *,
    quantity: str,
    sizes: Sequence[int],
    sigma: float,
    min_size: int,
) -> tuple[Labels, int]:
    """Return the number of examples of each client, and how many of them ``min_size`` moved.

    ``sizes``, if given, are used unchanged. Else client i (from 0) gets examples in proportion to
    i + 1 (``linear``), its square, exp(i + 1) (``exponential``), or a draw from a log-normal
    distribution with log standard deviation ``sigma``; shares are rounded down, and the largest
    client gets the rest. These are the definitions of flwr-datasets (``SizePartitioner``,
    ``LinearPartitioner``, …) and, for log-normal, of Acar et al., "Federated Learning Based on
    Dynamic Regularization" (2021). Examples then move from the largest clients to those with fewer
    than ``min_size``.

    Raises ``UsageError`` if ``sizes`` add up to more than there are.
    """
    if sizes:
        if sum(sizes) > total:
            raise UsageError(
                f"--sizes: they add up to {sum(sizes)}, more than the {total} training examples"
            )
        return np.array(sizes, np.int64), 0
    if quantity == "even":
        return total // clients + (np.arange(clients) < total % clients), 0
    weights = QUANTITIES[quantity](clients, sigma, rng)
    drawn = (weights / weights.sum() * total).astype(np.int64)
    drawn[np.argmax(weights)] += total - drawn.sum()
    raised = np.maximum(drawn, min_size)
    missing = int((raised - drawn).sum())
    for _ in range(missing):
        raised[np.argmax(raised)] -= 1
    return raised, missing
