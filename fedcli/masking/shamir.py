"""Shamir's secret sharing over the prime 2⁵²¹ − 1: t of n shares give the secret, fewer nothing.

Shamir 1979, "How to share a secret". It runs on the owner's own machine, on its own secrets, so
that its time tells nobody anything.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from fedcli.masking.secrets import SEED_BYTES, Secret

PRIME = (1 << 521) - 1
SHARE_BYTES = 66
_COEFFICIENT_BYTES = 82  # 656 bits modulo a prime of 521: within 2⁻¹³⁵ of uniform


def split(
    secret: Secret, threshold: int, points: Sequence[int], source: Secret, label: bytes
) -> list[int]:
    """Return the shares of a secret at ``points``: values of a polynomial of degree t − 1.

    Its coefficients are derived from ``source``, so that repeating a step repeats its bytes.
    ``label`` must differ wherever the secret does: two secrets with the same coefficients show
    their difference.
    """
    numbers = [str(power).encode() for power in range(1, threshold)]
    above = [
        source.derive("coefficient", label + b"|" + number, _COEFFICIENT_BYTES).value
        for number in numbers
    ]
    coefficients = [secret.value, *above]
    polynomial = [int.from_bytes(one, "big") % PRIME for one in coefficients]
    return [_value_at(polynomial, point) for point in points]


def _value_at(polynomial: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * point + coefficient) % PRIME
    return value


def join(shares: Mapping[int, int], threshold: int) -> Secret:
    """Return the secret from t or more shares by their points; all beyond t of them are unused.

    Raises ``ValueError`` for fewer, and for shares of no secret of 32 bytes.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares, expected {threshold}")
    points = tuple(sorted(shares)[:threshold])
    weights = _weights_at_zero(points)
    total = sum(weight * shares[x] for weight, x in zip(weights, points, strict=True)) % PRIME
    if total.bit_length() > 8 * SEED_BYTES:
        raise ValueError("shares that do not belong together")
    return Secret(total.to_bytes(SEED_BYTES, "big"))


@cache
def _weights_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the Lagrange coefficients at 0."""
    return tuple(_weight(points, x) for x in points)


def _weight(points: tuple[int, ...], x: int) -> int:
    weight = 1
    for other in points:
        if other != x:
            weight = weight * other * pow(other - x, -1, PRIME) % PRIME
    return weight


def encode_share(share: int) -> bytes:
    """Return a share as 66 bytes."""
    return share.to_bytes(SHARE_BYTES, "big")


def decode_share(data: bytes) -> int:
    """Return the share in 66 bytes; raise ``ValueError`` for anything else."""
    share = int.from_bytes(data, "big")
    if len(data) != SHARE_BYTES or share >= PRIME:
        raise ValueError("expected a share of 66 bytes below 2^521 - 1")
    return share
