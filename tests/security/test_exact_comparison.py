"""Comparisons with real numbers, against power series in fractions."""

from bisect import bisect
from fractions import Fraction
from math import factorial

import numpy as np
import pytest

from fedcli.security.exact_comparison import (
    ERROR,
    Bits,
    below_exponential,
    exponential,
    place_among,
)

POWERS = [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(7, 2), Fraction(12345, 1000), 2**-40]


def series(power: Fraction, bits: int = 256) -> Fraction:
    """exp(−power) as 1 / Σ power^k / k!, whose rest is less than 2^-bits."""
    total, k = Fraction(0), 0
    while (term := power**k / factorial(k)) > Fraction(1, 2**bits) or k < 2 * power:
        total, k = total + term, k + 1
    return 1 / total


def bits_of(number: int) -> Bits:
    """Answer with the first bits of a number of 256 bits."""
    return lambda bits: number >> (256 - bits)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("bits", [8, 32, 96, 200])
def test_exponentials_have_as_many_bits_as_asked_for(power: Fraction, bits: int) -> None:
    power = Fraction(power)
    assert abs(exponential(power, bits) - series(power) * 2**bits) < ERROR


def test_an_exponential_too_small_for_a_float_is_zero() -> None:
    assert exponential(Fraction(10**12), 64) == 0


@pytest.mark.parametrize("power", POWERS[1:])
def test_words_around_an_exponential_are_below_it_with_its_probability(power: Fraction) -> None:
    """All words but one are decided whatever follows; that one is decided by what follows."""
    power = Fraction(power)
    exact = series(power) * 2**32
    word = int(exact)
    assert all(below_exponential(word - k, bits_of(2**256 - 1), power) for k in range(1, 4))
    assert not any(below_exponential(word + k, bits_of(0), power) for k in range(1, 4))
    rest = int((exact - word) * 2**256)
    for bits in (20, 60, 100, 150, 180):  # how closely the number meets the exponential
        near = 2 ** (256 - bits)
        if near <= rest < 2**256 - near:
            assert below_exponential(word, bits_of(rest - near), power)
            assert not below_exponential(word, bits_of(rest + near), power)


def test_everything_is_below_one() -> None:
    assert below_exponential(2**32 - 1, bits_of(2**256 - 2**200), Fraction(0))


def thirds(bits: int) -> list[int]:
    """1/3, 2/3 and numbers that approach 1."""
    shares = [Fraction(1, 3), Fraction(2, 3), *(1 - Fraction(1, 3**k) for k in range(2, bits))]
    return [int(share * 2**bits) for share in shares]


@pytest.mark.parametrize("bits", [32, 64, 90, 120, 150])
@pytest.mark.parametrize("which", [0, 1])
def test_a_number_is_placed_however_close_a_boundary_is(bits: int, which: int) -> None:
    boundary = int(Fraction(which + 1, 3) * 2**288)
    for number, expected in (
        (boundary - 2 ** (288 - bits), which),
        (boundary + 2 ** (288 - bits), which + 1),
    ):
        found = place_among(number >> 256, bits_of(number % 2**256), thirds)
        assert found == expected


def test_numbers_close_to_one_get_as_many_places_as_they_need() -> None:
    draw = np.random.default_rng(7)
    for gap in (2**-40, 2**-70, 2**-130):
        number = 2**288 - int(draw.integers(1, 9)) * int(gap * 2**288)
        exact = bisect(thirds(288), number)
        assert place_among(number >> 256, bits_of(number % 2**256), thirds) == exact
