"""A member's part of client-level privacy: its step, shortened to C, and its part of the noise.

Kairouz et al. 2021, "The distributed discrete Gaussian mechanism", without the rotation: sums are
integers of 32 bits, which leave room for a fine grid.
"""

import hashlib
import math

import numpy as np

from fedcli.masking.masks import Integers
from fedcli.masking.pairwise import Agreement
from fedcli.masking.quantise import Floats, Grid, Quantised
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.security.discrete_gaussian import DiscreteGaussian
from fedcli.security.secret_streams import SecretStreams

_CHUNK = 1 << 18  # values
_ROUNDING = 1 - 2.0**-20  # more than float64 errs in the norm of 2³⁶ values


def shortened(grid: Grid, noise: MaskedNoise, values: Floats) -> Quantised:
    """Return a step as integers whose Euclidean norm on the grid is at most C/g.

    A step that is NaN or infinite counts as zero: a member that failed would tell of its data.
    Raises ``UsageError`` for a grid that is too coarse for so many values.
    """
    most, norm = noise.before_rounding(values.size), norm_of(values)
    if not math.isfinite(norm):
        return Quantised(np.zeros(values.size, np.int32), 0)
    weight = 1.0 if norm <= most else most / norm * _ROUNDING
    return grid.quantise(values, weight)


def norm_of(values: Floats) -> float:
    """Return the Euclidean norm of float32 values."""
    starts = range(0, values.size, _CHUNK)
    parts = (values[start : start + _CHUNK].astype(np.float64) for start in starts)
    with np.errstate(invalid="ignore"):
        return math.sqrt(sum(float(part @ part) for part in parts))


def add_noise(noise: MaskedNoise, agreement: Agreement, values: Integers) -> Integers:
    """Return a member's integers with its part of the noise, modulo 2³².

    The noise is keyed with the member's own secret and with the integers: the same ones get the
    same noise, and others get independent noise.
    """
    if not noise.sigma:
        return values
    digest = hashlib.sha256(np.ascontiguousarray(values, "<i4").data).hexdigest()
    secret = agreement.own.derive("noise", agreement.cohort.where.label(digest))
    streams, part = SecretStreams(secret.value), DiscreteGaussian(noise.variance)
    found = np.empty_like(values)
    for start in range(0, values.size, _CHUNK):
        stop = min(start + _CHUNK, values.size)
        drawn = part.draw(streams, "noise", start, stop)
        found[start:stop] = (drawn + values[start:stop]).astype(np.int32)
    return found
