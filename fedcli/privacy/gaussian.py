"""The exact privacy of Gaussian noise: Balle and Wang 2018, theorem 8.

Sums whose noise has the standard deviation σᵢ times their sensitivity compose to one Gaussian
mechanism with μ² = Σ 1/σᵢ² (Dong et al. 2019, corollary 3.3), which is (ε, δ)-private exactly for

    δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)
"""

import math
from statistics import NormalDist

_TAIL = 10.0  # from here on the continued fraction is exact in float64 with this many terms
_TERMS = 60
_PRECISION = 1e-12  # of ε, relative


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return δ(ε) for ε ≥ 0.

    e^ε is the ratio of the densities at the two arguments of Φ: written with Mills' ratio, nothing
    overflows, and a small δ keeps its digits.
    """
    if mu == 0:
        return 0.0
    if math.isinf(mu):
        return 1.0
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    density = math.exp(-upper * upper / 2) / math.sqrt(2 * math.pi)
    if upper < 0:
        return max(0.0, density * (_mills(-upper) - _mills(-lower)))
    return max(0.0, 0.5 * math.erfc(-upper / math.sqrt(2)) - density * _mills(-lower))


def _mills(x: float) -> float:
    """Return (1 − Φ(x)) / φ(x) for x ≥ 0."""
    if x < _TAIL:
        return math.sqrt(math.pi / 2) * math.exp(x * x / 2) * math.erfc(x / math.sqrt(2))
    fraction = x
    for k in range(_TERMS, 0, -1):
        fraction = x + k / fraction
    return 1 / fraction


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest ε ≥ 0 with δ(ε) ≤ δ, rounded up."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, _bound(mu, delta)
    if math.isinf(high):
        return math.inf
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if gaussian_delta(mu, middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def _bound(mu: float, delta: float) -> float:
    """Return an ε at which the first of the two terms of δ(ε) alone is at most δ."""
    return mu * (mu / 2 - NormalDist().inv_cdf(delta))
