"""Compare secret uniform numbers with real ones, with as many bits as the answer takes.

A uniform number between 0 and 1 is known by its first 32 bits. They nearly always decide on which
side of another number it lies; else it gets more bits, and the other number more digits. So every
answer is that of real numbers, and no rounding changes a probability.
"""

from bisect import bisect
from collections.abc import Callable, Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

WORD_BITS = 32
ERROR = 2  # units in the last place of what is computed here
_LEAST_BITS = 64  # of a number after its first word, when that word does not decide
_DIGITS_PER_BIT = 0.30103
_SPARE_DIGITS = 4

Bits = Callable[[int], int]  # the next so many bits of a uniform number, always the same ones


def exponential(power: Fraction, bits: int) -> int:
    """Return exp(−power) · 2^bits, off by less than ``ERROR``. ``power`` is at least 0."""
    context = Context(int(bits * _DIGITS_PER_BIT) + _SPARE_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX)
    exponent = context.divide(Decimal(-power.numerator), Decimal(power.denominator))
    return int(context.multiply(context.exp(exponent), Decimal(1 << bits)))


def below_exponential(word: int, more: Bits, power: Fraction) -> bool:
    """Whether the uniform number that starts with ``word`` lies below exp(−power)."""
    for bits, number in _longer(word, more):
        bound = exponential(power, bits)
        if number + 1 + ERROR <= bound:
            return True
        if number >= bound + ERROR:
            return False
    raise AssertionError("unreachable: there are always more bits")


def place_among(word: int, more: Bits, sums: Callable[[int], list[int]]) -> int:
    """Return how many of a rising series of numbers are not above the uniform number.

    ``sums(bits)`` has those times 2^bits, off by less than ``ERROR``, up to one so close to 1
    that the bits do not tell it from 1.
    """
    for bits, number in _longer(word, more):
        found = sums(bits)
        place = bisect(found, number)
        if place < len(found) and not any(
            abs(one - number) <= 1 + ERROR for one in found[max(0, place - 1) : place + 1]
        ):
            return place
    raise AssertionError("unreachable: there are always more bits")


def _longer(word: int, more: Bits) -> Iterator[tuple[int, int]]:
    """Yield the same number with ever more bits, and how many."""
    bits = _LEAST_BITS
    while True:
        yield WORD_BITS + bits, word << bits | more(bits)
        bits *= 2
