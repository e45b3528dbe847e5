"""Clip contributions, round them to a grid, and move the clipping norm from round to round.

A contribution is shortened to the norm C and rounded towards zero, to multiples of a power of two.
No coordinate grows by that, so the norm is at most C on the grid too, and nothing has to be added
to the sensitivity of the sum. The bias is below 2⁻²⁰ standard deviations of the noise.
"""

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Integers = NDArray[np.int64]

FINEST = 20  # the standard deviation of the noise is 2^20 to 2^21 units of the grid
_MOST_BITS = 30  # of C in units of the grid, so that int64 holds the sum of any number of clients
_ROUNDING = 2.0**-52  # twice the relative error of an operation in float64
_SPARE_TERMS = 16
LEAST_CLIP, LARGEST_CLIP = 1e-30, 1e30  # where no square overflows or vanishes


def grid_of(sigma: float, clip: float) -> float:
    """Return the grid for noise of the standard deviation σC: a power of two.

    If σ is below 2⁻¹⁰, the noise has fewer than 2²⁰ units, which the accountant sees.
    """
    _, exponent = math.frexp(sigma * clip)
    _, least = math.frexp(clip)
    return math.ldexp(1.0, max(exponent - 1 - FINEST, least - _MOST_BITS))


def clip_factors(norms: Values, clip: float, coordinates: int) -> Values:
    """Return min(1, C/‖Δᵢ‖) for n contributions (n,); 0 for a norm that is NaN or infinite.

    They are smaller by what computing a norm over so many coordinates in float64 can err, so that
    no clipped contribution is longer than C.
    """
    bound = clip * (1 - (coordinates + _SPARE_TERMS) * _ROUNDING)
    known = np.where(np.isfinite(norms), norms, np.inf)
    factors: Values = np.minimum(1.0, bound / np.maximum(known, bound))
    return factors


def sum_noise(noise: float, count_noise: float) -> float:
    """Return z_Δ, the noise multiplier of the sum if a count gets noise of std σ_b beside it.

    Both together cost what the sum with the multiplier z would: z_Δ = (z⁻² − (2σ_b)⁻²)^(−½),
    Andrew et al. 2021, "Differentially private learning with adaptive clipping", theorem 1. Needs
    2σ_b > z, or 0 for both.
    """
    return noise and (noise**-2 - (2 * count_noise) ** -2) ** -0.5


def next_clip(clip: float, share: float, target: float, rate: float) -> float:
    """Return C·exp(−η(b̃ − γ)), for the (noisy) share b̃ of contributions with a norm of C at most.

    Andrew et al. 2021, algorithm 1; within 1e-30 … 1e30.
    """
    exponent = max(-_MOST_EXPONENT, min(_MOST_EXPONENT, -rate * (share - target)))
    return min(LARGEST_CLIP, max(LEAST_CLIP, clip * math.exp(exponent)))


_MOST_EXPONENT = 200.0  # of e, as a float, after which C is at its bound anyway
