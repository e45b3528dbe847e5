"""The discrete Gaussian, drawn exactly: integers y with probabilities ∝ exp(−y²/2σ²).

Canonne et al. 2020, "The discrete Gaussian for differential privacy", define it, and draw it by
rejection from a discrete Laplace distribution. Here the proposal is closer, a staircase, so that 97
of 100 candidates are accepted: the integers are cut into strips of a power of two, about σ/16 wide.
Strip k, from kw on, has a probability ∝ exp(−(kw)²/2σ²), and its integers have the same; y = kw + u
is accepted with probability exp(−(2kwu + u²)/2σ²). A sign is drawn, and −0 is rejected.

Floating point only finds the comparisons whose answer is beyond its error. The others are decided
exactly, so the probabilities are those above, and the bytes are the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, count

import numpy as np
from numpy.typing import NDArray

from fedcli.security.exact_comparison import (
    ERROR,
    WORD_BITS,
    Bits,
    below_exponential,
    exponential,
    place_among,
)
from fedcli.security.secret_streams import SecretStreams

LARGEST_STD = 2**31
_STRIPS = 16  # in a standard deviation, at least
_CHUNK = 2**15  # values that share streams; their arrays stay in a cache
_SPARE = 1.06  # candidates for a value: about 2 % are rejected where strips are wide
_GUARD_BITS = 32  # lost when some hundred terms, each off by ERROR, are added up
_MARGIN = 2.0**-10  # of 2³² exp(x) for |x| < 1: float64 errs by less than 2⁻¹⁶
_WORDS = 2.0**WORD_BITS
_LAST_WORD = 2**WORD_BITS - 1

Integers = NDArray[np.int64]
Words = NDArray[np.uint32]


@dataclass(frozen=True)
class DiscreteGaussian:
    """The discrete Gaussian of mean 0 whose parameter σ² is ``variance``.

    Raises ``ValueError`` for a variance of 0 or less, or above ``LARGEST_STD``².
    """

    variance: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.variance <= LARGEST_STD**2:
            raise ValueError(f"variance: expected 0 … 2^62, found {self.variance}")

    def draw(self, streams: SecretStreams, purpose: str, start: int, stop: int) -> Integers:
        """Return the values of the places ``start`` … ``stop`` − 1 of a purpose: int64.

        A place has the same value whatever range it is read in. Raises ``MissingDependencyError``.
        """
        found = np.empty(stop - start, np.int64)
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK)):
            first = chunk * _CHUNK
            low, high = max(start, first), min(stop, first + _CHUNK)
            values = self._chunk(_Place(streams, purpose, chunk), high - first)
            found[low - start : high - start] = values[low - first :]
        return found

    def _chunk(self, place: "_Place", wanted: int) -> Integers:
        """Return the first values of a chunk; more candidates begin with the same ones."""
        candidates = int(wanted * _SPARE) + 64
        while (found := self._accepted(place, candidates)).size < wanted:
            candidates = 2 * candidates
        return found[:wanted]

    def _accepted(self, place: "_Place", candidates: int) -> Integers:
        base = self._strips(place, candidates) * self._width
        words = place.words("place", candidates)
        inner = (words & np.uint32(self._width - 1)).astype(np.int64)
        negative = words >> np.uint32(WORD_BITS - 1) != 0
        found = base + inner
        kept = ~(negative & (found == 0))
        if self._width > 1:
            kept &= self._lower(place, base, inner)
        np.negative(found, out=found, where=negative)
        accepted: Integers = found[kept]
        return accepted

    def _strips(self, place: "_Place", candidates: int) -> Integers:
        """Draw the strips of candidates by their cumulative probabilities."""
        words = place.words("strip", candidates)
        found = np.searchsorted(self._edges, words, side="right")
        for i in np.flatnonzero(self._edges[found - 1] == words).tolist():
            found[i] = place_among(int(words[i]), place.bits("strip", i), self._cumulative)
        return found

    def _lower(self, place: "_Place", base: Integers, inner: Integers) -> NDArray[np.bool_]:
        """Draw which candidates lie below the density: y² − (kw)² = u (u + 2kw)."""
        words = place.words("height", base.size)
        squares = inner * (inner + 2.0 * base)
        gap = np.exp(squares * float(-1 / (2 * self.variance))) * _WORDS - words
        found: NDArray[np.bool_] = gap > 1
        for i in np.flatnonzero(np.abs(gap - 0.5) < 0.5 + _MARGIN).tolist():
            y, low = int(base[i] + inner[i]), int(base[i])
            power = Fraction(y * y - low * low) / (2 * self.variance)
            found[i] = below_exponential(int(words[i]), place.bits("height", i), power)
        return found

    @cached_property
    def _width(self) -> int:
        """The power of two that a strip is wide, at most σ/16 unless 1."""
        width = 1
        while (2 * width * _STRIPS) ** 2 <= self.variance:
            width *= 2
        return width

    @cached_property
    def _edges(self) -> Words:
        """The first words of the cumulative probabilities of strips, up to the last word."""
        spare = WORD_BITS
        while (found := _first_words(self._cumulative(WORD_BITS + spare), spare)) is None:
            spare *= 2
        return np.array(found[: found.index(_LAST_WORD) + 1], np.uint32)

    def _cumulative(self, bits: int) -> list[int]:
        """Return the cumulative probabilities of strips, times 2^bits, off by less than ERROR."""
        weights = []
        for k in count():
            power = Fraction((k * self._width) ** 2) / (2 * self.variance)
            weights.append(exponential(power, bits + _GUARD_BITS))
            if weights[-1] <= ERROR:
                break
        total = sum(weights)
        return [(partial << bits) // total for partial in accumulate(weights)]


def _first_words(numbers: Sequence[int], spare: int) -> list[int] | None:
    """Return numbers below 1, with 32 + ``spare`` bits, without the spare ones.

    None if their error might change a bit that remains.
    """
    least, most = (
        [min((one + error) >> spare, _LAST_WORD) for one in numbers] for error in (-ERROR, ERROR)
    )
    return least if least == most else None


@dataclass(frozen=True)
class _Place:
    """The streams of one chunk of a purpose."""

    streams: SecretStreams
    purpose: str
    chunk: int

    def words(self, draw: str, size: int) -> Words:
        return self.streams.words(f"{self.purpose} {draw}", self.chunk, size)

    def bits(self, draw: str, candidate: int) -> Bits:
        """Return what continues the word of a candidate, in a stream of its own."""

        def more(bits: int) -> int:
            number = 0
            for word in self.words(f"{draw} {candidate}", bits // WORD_BITS).tolist():
                number = number << WORD_BITS | word
            return number

        return more
