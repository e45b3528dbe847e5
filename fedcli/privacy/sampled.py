"""The privacy of sampled sums, by numeric composition in ``dp-accounting``, which is optional.

Its privacy loss distributions (Doroshenko et al. 2022, "connect the dots") bound ε from above, on a
grid of privacy losses.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fedcli.errors import MissingDependencyError
from fedcli.formats.ledger import Relation

_GRID = 1e-4  # between two privacy losses
_POINTS = 10**5  # of a finer grid, for losses that are small against 1e-4
_MOST_POINTS = 10**6  # the grid is coarser for a loss above 100
_MOST_FINE = 10  # different sums on the finest grid; 100 of them would take a minute
_MOST_LOSS = 1e4
_MOST_COUNT = 10**7
_LEAST_Q, _MOST_SIGMA = 1e-6, 1e4  # beyond, a distribution loses its digits, or takes minutes
_LEAST_SIGMA = 1e-150  # its square is still a float
_REACH = 12.0  # standard deviations that hold all but e⁻⁵⁰ of a loss


class Sampled(NamedTuple):
    """A sum with noise multiplier ``sigma`` over a sample to which each belongs with ``q``."""

    q: float
    sigma: float


Counts = Mapping[Sampled, int]


def sensitivity(relation: Relation) -> int:
    """Return how far a neighbouring data set moves a sum, in units of C."""
    return 2 if relation == Relation.REPLACE else 1


def root_of_squares(sums: Counts) -> float:
    """Return √Σ 1/σ²: as Gaussian noise on sums over all, they are one with this μ at k = 1."""
    if any(each.sigma < _LEAST_SIGMA for each in sums):
        return math.inf
    return math.sqrt(math.fsum(count / each.sigma / each.sigma for each, count in sums.items()))


def amplified(sums: Counts, relation: Relation) -> Counts:
    """Return the sums of samples for which a distribution is worth while.

    The others count as sums over all, which cost no less; and so do all of them if those alone
    leave nothing to protect.
    """
    found = {each: count for each, count in sums.items() if _is_worth(each, count, relation)}
    rest = root_of_squares({each: sums[each] for each in sums.keys() - found.keys()})
    return found if _within((sensitivity(relation) * rest) ** 2) <= _MOST_LOSS else {}


def _is_worth(each: Sampled, count: int, relation: Relation) -> bool:
    if each.q == 1 or each.sigma < sensitivity(relation) / _MOST_LOSS or count > _MOST_COUNT:
        return False
    single = _within((sensitivity(relation) / each.sigma) ** 2)
    return max(single, _within(_twice_the_mean(each, count, relation))) <= _MOST_LOSS


def _within(twice_the_mean: float) -> float:
    """Return roughly the largest privacy loss that matters, of Gaussian noise."""
    return twice_the_mean + _REACH * math.sqrt(twice_the_mean)


def _twice_the_mean(each: Sampled, count: int, relation: Relation) -> float:
    """Return a bound on twice the mean privacy loss, which is also about its variance."""
    square = (sensitivity(relation) / each.sigma) ** 2
    chi_squared = each.q**2 * math.expm1(min(square, 700.0))
    return count * min(square, math.log1p(chi_squared))


def loss_distribution(mu: float, sampled: Counts, relation: Relation) -> Any:
    """Return the accountant of all sums, with ``get_epsilon(δ)`` and ``get_delta(ε)``.

    A q or σ beyond what can be computed makes way for one that costs more. ``mu`` stands for the
    sums that are not sampled, for a sensitivity of C. Raises ``MissingDependencyError``.
    """
    return _distribution(mu, tuple(sorted(_computable(sampled).items())), relation)


def _computable(sampled: Counts) -> Counts:
    found: Counter[Sampled] = Counter()
    for each, count in sampled.items():
        found[Sampled(max(each.q, _LEAST_Q), min(each.sigma, _MOST_SIGMA))] += count
    return found


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
        value_discretization_interval=_interval(mu, sampled, relation),
    )
    if mu > 0:
        found.compose(dp_accounting.GaussianDpEvent(1 / mu))
    for each, count in sampled:
        noise = dp_accounting.GaussianDpEvent(each.sigma)
        found.compose(dp_accounting.PoissonSampledDpEvent(each.q, noise), count)
    return found


def _interval(mu: float, sampled: Sequence[tuple[Sampled, int]], relation: Relation) -> float:
    """Return the distance between two losses: 1e-4 unless that is much too coarse or too fine."""
    shifts = [sensitivity(relation) / each.sigma for each, _ in sampled]
    means = [_twice_the_mean(each, count, relation) for each, count in sampled]
    together = math.fsum([*means, (sensitivity(relation) * mu) ** 2])
    loss = max(_within(together), *(_within(shift * shift) for shift in shifts))
    smallest = min(each.q * shift for (each, _), shift in zip(sampled, shifts, strict=True))
    fine = min(_GRID, max(smallest / 10, loss / _POINTS))
    return max(fine, loss / _MOST_POINTS, _GRID * len(sampled) / _MOST_FINE)
