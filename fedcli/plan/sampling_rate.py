"""Poisson sampling: how likely an example is in a batch, and what of it is public."""

import math

_STEPS_PER_OCTAVE = 8


def sampling_rate(batch_size: int, examples: int) -> float:
    """Return q, with which each of so many examples is in a batch: B is the mean size of one."""
    return min(1.0, batch_size / max(1, examples))


def public_rate(rate: float) -> float:
    """Return a power of 2^(1/8) of at least q: with B, q itself would tell how many examples.

    It tells them within 9 %, and what is accounted with it is an upper bound.
    """
    octaves = math.floor(-math.log2(rate) * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE
    return max(rate, math.pow(2, -octaves))  # the power may be rounded down


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return the steps of an epoch of Poisson batches, which tell no more than the public rate."""
    return math.ceil(1 / public_rate(sampling_rate(batch_size, examples)))
