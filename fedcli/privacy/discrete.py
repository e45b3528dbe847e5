"""Two bounds on the privacy of discrete Gaussian noise, of which the smaller one counts.

The noise has the standard deviation s = σC/g in units of its grid, on which contributions lie.

1. It is as concentrated as Gaussian noise of the same size, ρ = μ²/2, for every s and in every
   number of dimensions (Canonne et al. 2020). Turning ρ into ε and δ costs some 8 % of ε.
2. Gaussian noise that is rounded to the grid is as private as unrounded, and close to discrete
   noise. With h(k) the integral of exp(−(2ku + u²)/2s²) over |u| ≤ ½, a rounded value has the
   probability Z·h(k) of the discrete one, so the χ² divergence of a coordinate is Z² E[h²] − 1.
   E[exp(−kt/s²)] ≤ exp(t²/2s²), as the density sums to less if it is shifted off the grid; hence
   E[h²] is at most the mean of cosh(uv/s²) over |u|, |v| ≤ ½. Kullback-Leibler divergences add up
   over coordinates and rounds, and Pinsker's inequality makes a total variation t of them:

       δ_discrete(ε) ≤ δ_gaussian(ε) + (1 + e^ε) t

Draws of several parties add up to nearly the discrete Gaussian of the whole variance. Of a sum that
has the variance ks² and one more draw, the probability of a value is that of the discrete Gaussian
times a sum of exp(−(j − c)²/2v) over the integers j, with v = s²k/(k + 1) and a c that depends on
the value. By Poisson summation it lies within a factor of 1 ± 2r, r = Σ exp(−2π²vj²) over j ≥ 1,
whatever c is (Kairouz et al. 2021 bound the same ratio). That is one more total variation, in both
bounds.
"""

import math
from collections.abc import Callable, Mapping

from fedcli.formats.ledger import Mechanism, PrivacyEvent

_LEAST_SCALE = 1.0  # the bound on Z below needs it
_LARGEST_SCALE = 1e50  # its fourth power is still a float
_LARGEST_POWER = 0.25  # keeps the ripple below 1
_LEAST_ORDER, _LARGEST_ORDER = 1e-8, 1e200  # minus 1; others do not fit a float
_STEPS = 100  # of the search for an order; the interval shrinks to 1e-20
_GOLDEN = (math.sqrt(5) - 1) / 2


def rounding(counts: Mapping[PrivacyEvent, int]) -> float:
    """Return the total variation between discrete and rounded Gaussian noise, at most 1.

    ``counts`` says how often each event was.
    """
    divergence = math.fsum(count * _divergence(event) for event, count in counts.items())
    return min(1.0, math.sqrt(divergence / 2))


def _divergence(event: PrivacyEvent) -> float:
    """Return a bound on the Kullback-Leibler divergence in one sum, in nats."""
    if event.mechanism != Mechanism.DISCRETE or event.grid is None or event.coordinates is None:
        return 0.0
    if (scale := _scale(event, event.grid)) < _LEAST_SCALE:
        return math.inf
    square = math.cosh(1 / (4 * scale**2)) / (288 * scale**4)  # of the mean of cosh, minus 1
    excess = 2.01 * math.exp(-2 * (math.pi * scale) ** 2)  # Z − 1, by Poisson summation
    return event.coordinates * (math.log1p(square) + 2 * math.log1p(excess))


def splitting(counts: Mapping[PrivacyEvent, int]) -> float:
    """Return the total variation between the draws of parties and one draw, at most 1."""
    return min(1.0, math.fsum(count * _log_ratio(event) / 2 for event, count in counts.items()))


def _log_ratio(event: PrivacyEvent) -> float:
    """Return a bound on the logarithm of the ratio of both densities; k = 1 is the worst."""
    if event.grid is None or event.coordinates is None or (event.parties or 1) == 1:
        return 0.0
    draws = event.parties or 1
    power = math.exp(-((math.pi * _scale(event, event.grid)) ** 2) / draws)
    if power > _LARGEST_POWER:
        return math.inf
    ripple = 2 * power / (1 - power)
    return event.coordinates * (draws - 1) * (math.log1p(ripple) - math.log1p(-ripple))


def _scale(event: PrivacyEvent, grid: float) -> float:
    return min(_LARGEST_SCALE, event.sigma * (event.clip or 0.0) / grid)


def concentrated_epsilon(mu: float, delta: float) -> float:
    """Return ε at δ for ρ = μ²/2: the least over orders α > 1 (Canonne et al. 2020) of

    αρ + log(1 − 1/α) − (log δ + log α) / (α − 1)
    """
    rho = mu * mu / 2
    if rho == 0 or math.isinf(rho):
        return rho

    def at(order: float) -> float:
        return order * rho + _log_factor(order) - math.log(delta) / (order - 1)

    return max(0.0, _least(at, math.sqrt(-math.log(delta) / rho)))


def concentrated_delta(mu: float, epsilon: float) -> float:
    """Return δ at ε for ρ = μ²/2: the same bound, solved for δ; at most 1."""
    rho = mu * mu / 2
    if rho == 0 or math.isinf(rho):
        return float(rho > 0)

    def at(order: float) -> float:
        return (order - 1) * (order * rho + _log_factor(order) - epsilon)

    return math.exp(min(0.0, _least(at, max(1.0, epsilon / rho))))


def _log_factor(order: float) -> float:
    return math.log1p(-1 / order) - math.log(order) / (order - 1)


def _least(bound: Callable[[float], float], around: float) -> float:
    """Return the least bound found by a golden-section search; ``around`` is a good α − 1.

    Every order gives a valid bound, so the search need not end at the best one.
    """
    middle = math.log(min(max(around, _LEAST_ORDER), _LARGEST_ORDER))
    low, high = middle - 12, middle + 12

    def at(place: float) -> float:
        return bound(1 + math.exp(place))

    for _ in range(_STEPS):
        step = _GOLDEN * (high - low)
        if at(high - step) < at(low + step):
            high = low + step
        else:
            low = high - step
    return at((low + high) / 2)
