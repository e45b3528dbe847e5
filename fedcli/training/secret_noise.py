"""Gaussian noise and Poisson samples from secret streams.

Floating point must not tell what the noise is added to (Mironov 2012): a noisy sum is rounded to a
grid of a thousandth of its standard deviation, on which every value is reached from every sum.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedcli.security.secret_streams import SecretStreams

_GRID = -10  # log2 of the grid in standard deviations; float32 has 14 more bits
_PAIRS = 2**17  # pairs of values at a time, which stay in a cache
_BITS = 2**31 - 1  # of a word, without its sign
_WORD = 2.0**-31
_RARE = 2**12  # below, a word has too few bits


def poisson(streams: SecretStreams, step: int, count: int, rate: float) -> Tensor:
    """Return the examples of a step's batch: each of ``count`` with probability ``rate``.

    The indices are int64 (n,), in order; n may be 0. The draws are secret.
    """
    words = streams.words("sample", step, 2 * count).astype("u8")
    drawn = words[:count] << 32 | words[count:]
    chosen = drawn < min(round(rate * 2**64), 2**64 - 1)
    return torch.from_numpy(chosen).nonzero()[:, 0]


def gaussian(streams: SecretStreams, step: int, count: int) -> Tensor:
    """Return independent values of N(0, 1): float32 (count,), on the CPU.

    By Box & Muller 1958. The tails are not cut where the bits of a word end: the smallest words
    are followed by 32 more bits from a stream of their own.
    """
    pairs = (count + 1) // 2
    words = torch.from_numpy(streams.words("noise", step, 2 * pairs).view("i4"))
    found = torch.empty(2 * pairs)
    for start in range(0, 2 * pairs, 2 * _PAIRS):
        part = slice(start, min(start + 2 * _PAIRS, 2 * pairs))
        radii, angles = words[part].chunk(2)
        radii = radii.bitwise_and(_BITS)
        _box_muller(_uniform(radii, streams, f"tail {start}", step), angles, found[part])
    return found[:count]


def _uniform(words: Tensor, streams: SecretStreams, purpose: str, step: int) -> Tensor:
    """Return uniform numbers between 0 and 1, float32, from words of 31 bits."""
    numbers = words.float().add_(0.5).mul_(_WORD)
    if int(words.min()) < _RARE:
        rare = (words < _RARE).nonzero()[:, 0]
        more = torch.from_numpy(streams.words(purpose, step, len(rare)).astype("f8"))
        longer = words[rare].double() + (more + 0.5) / 2**32
        numbers[rare] = (longer * _WORD).float()
    return numbers.clamp_(max=1 - 2.0**-24)


def _box_muller(uniform: Tensor, angles: Tensor, found: Tensor) -> None:
    radii = uniform.log_().mul_(-2).sqrt_()
    turned = angles.float().mul_(math.pi * _WORD)
    torch.mul(turned.cos(), radii, out=found[: len(radii)])
    torch.mul(turned.sin_(), radii, out=found[len(radii) :])


def add_noise(
    sums: Sequence[Tensor], std: float, divisor: int, streams: SecretStreams, step: int
) -> list[Tensor]:
    """Return the sums with noise of this standard deviation, on a grid, over ``divisor``; float32.

    The noise is that of the step, one value after another of all sums, whatever the device and the
    layout in memory.
    """
    if not std:
        return list(torch._foreach_div(list(sums), divisor))
    noise = gaussian(streams, step, sum(one.numel() for one in sums))
    grid = 2.0 ** (math.floor(math.log2(std)) + _GRID)
    noisy, start = [], 0
    for one in sums:
        mine = noise[start : start + one.numel()].view(one.shape).to(one.device)
        start += one.numel()
        noisy.append(one.add(mine, alpha=std).mul_(1 / grid).round_().mul_(grid / divisor))
    return noisy
