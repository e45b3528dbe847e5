"""The privacy of sampled sums, by numeric composition in ``dp-accounting``, which is optional.

Its privacy loss distributions (Doroshenko et al. 2022, "connect the dots") bound ε from above, on a
grid of privacy losses.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fedcli.errors import MissingDependencyError
from fedcli.formats.ledger import PrivacyEvent, Relation

_GRID = 1e-4  # between two privacy losses
_POINTS = 10**5  # of a finer grid, for losses that are small against 1e-4
_MOST_POINTS = 10**6  # the grid is coarser for a loss above 100
_MOST_LOSS = 1e4
_MOST_COUNT = 10**7
_LEAST_Q, _MOST_SIGMA = 1e-6, 1e5  # beyond, a distribution loses its digits, or takes minutes
_REACH = 12.0  # standard deviations that hold all but e⁻⁵⁰ of a loss


class Sampled(NamedTuple):
    """A sum with noise multiplier ``sigma`` over a sample to which each belongs with ``q``."""

    q: float
    sigma: float

    @classmethod
    def of(cls, event: PrivacyEvent) -> "Sampled":
        """Return the sum of an event; beyond what can be computed, one that costs more."""
        if event.q == 1:
            return cls(event.q, event.sigma)
        return cls(max(event.q, _LEAST_Q), min(event.sigma, _MOST_SIGMA))


Counts = Mapping[Sampled, int]


def sensitivity(relation: Relation) -> int:
    """Return how far a neighbouring data set moves a sum, in units of C."""
    return 2 if relation == Relation.REPLACE else 1


def is_hopeless(each: Sampled, count: int, relation: Relation) -> bool:
    """Return whether there are too many sums, or too large a loss, for a distribution."""
    return count > _MOST_COUNT or _loss(each, count, relation) > _MOST_LOSS


def _loss(each: Sampled, count: int, relation: Relation) -> float:
    """Return roughly the largest privacy loss that matters, of one sum and of all."""
    mu = sensitivity(relation) / each.sigma
    if mu > _MOST_LOSS:
        return math.inf
    single = mu * mu / 2 + _REACH * mu
    chi_squared = each.q**2 * math.expm1(min(mu * mu, 700.0))  # bounds twice the mean loss
    total = count * min(mu * mu, math.log1p(chi_squared))
    return max(single, total + _REACH * math.sqrt(total))


def loss_distribution(mu: float, sampled: Counts, relation: Relation) -> Any:
    """Return the accountant of all sums, with ``get_epsilon(δ)`` and ``get_delta(ε)``.

    ``mu`` stands for the sums that are not sampled, for a sensitivity of C. Raises
    ``MissingDependencyError``.
    """
    return _distribution(mu, tuple(sorted(sampled.items())), relation)


@lru_cache(maxsize=32)
def _distribution(mu: float, sampled: tuple[tuple[Sampled, int], ...], relation: Relation) -> Any:
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError:
        raise MissingDependencyError(
            "the privacy of samples is computed by dp-accounting, which is not installed",
            hint="pip install 'fedcli[dp]'",
        ) from None
    neighbours = dp_accounting.NeighboringRelation
    found = pld.PLDAccountant(
        neighbours.REPLACE_ONE if relation == Relation.REPLACE else neighbours.ADD_OR_REMOVE_ONE,
        value_discretization_interval=_interval(sampled, relation),
    )
    if mu > 0:
        found.compose(dp_accounting.GaussianDpEvent(1 / mu))
    for each, count in sampled:
        noise = dp_accounting.GaussianDpEvent(each.sigma)
        found.compose(dp_accounting.PoissonSampledDpEvent(each.q, noise), count)
    return found


def _interval(sampled: Sequence[tuple[Sampled, int]], relation: Relation) -> float:
    """Return the distance between two losses: 1e-4 unless that is much too coarse or too fine."""
    loss = math.fsum(_loss(each, count, relation) for each, count in sampled)
    smallest = min(sensitivity(relation) * each.q / each.sigma for each, _ in sampled)
    fine = max(smallest / 10, loss / _POINTS)
    return max(min(_GRID, fine), loss / _MOST_POINTS)
