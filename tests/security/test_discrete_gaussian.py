"""The discrete Gaussian: goodness of fit, tails, independence, and exact borderline cases."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from support.thorough import THOROUGH

from fedcli.security.discrete_gaussian import DiscreteGaussian
from fedcli.security.exact_comparison import exponential
from fedcli.security.secret_streams import SecretStreams

KEY = bytes(range(32))
MANY = 10_000_000 if THOROUGH else 200_000
SIGNIFICANT = 5.0  # standard deviations, for a draw that is the same in every run of the tests
VARIANCES = [
    *(Fraction(1, 100), Fraction(1, 4), Fraction(9, 10), Fraction(1), Fraction(22, 7)),
    *(Fraction(1000, 3), Fraction(31**2), Fraction(32**2), Fraction(1000**2), Fraction(2**40 + 1)),
]


FIRST = [-2749789, 1890776, -658142, -164395, -1596697, 425760]  # σ = 2²⁰: a change shows here


def drawn(variance: Fraction, count: int, purpose: str = "test") -> np.ndarray:
    return DiscreteGaussian(variance).draw(SecretStreams(KEY), purpose, 0, count)


def probabilities(variance: Fraction, edges: list[int]) -> np.ndarray:
    """Exact probabilities of edges[i] ≤ y < edges[i + 1]; the outer bins reach to infinity."""
    most = math.isqrt(int(variance)) * 12 + 12
    values = np.arange(-most, most + 1)
    weights = np.exp(-(values.astype(float) ** 2) / (2 * float(variance)))
    places = np.searchsorted(np.array(edges[1:-1]), values, side="right")
    return np.bincount(places, weights, len(edges) - 1) / weights.sum()


def bins(variance: Fraction) -> list[int]:
    """Bins of a tenth of a standard deviation, at least one integer wide, to 3.5 of them."""
    std = math.sqrt(variance)
    width = max(1, round(std / 10))
    most = max(1, int(3.5 * std / width)) * width
    return [-(2**62), *range(-most, most + width, width), 2**62]


@pytest.mark.parametrize("variance", VARIANCES[:-1], ids=str)
def test_values_fit_the_exact_probabilities(variance: Fraction) -> None:
    count, edges = MANY, bins(variance)
    found, _ = np.histogram(drawn(variance, count), edges)
    expected = probabilities(variance, edges) * count
    enough = expected > 5
    square = float((((found - expected) ** 2)[enough] / expected[enough]).sum())
    freedom = max(1, int(enough.sum()) - 1)
    assert abs(square - freedom) < SIGNIFICANT * math.sqrt(2 * freedom)
    assert found[~enough].sum() <= expected[~enough].sum() + 10


@pytest.mark.parametrize("variance", [Fraction(31**2), Fraction(2**40 + 1)], ids=str)
def test_values_fit_within_strips(variance: Fraction) -> None:
    """No residue is more frequent than another: nothing of the staircase shows."""
    count = MANY
    residues = drawn(variance, count) % 8
    found = np.bincount(residues, minlength=8)
    square = float(((found - count / 8) ** 2 / (count / 8)).sum())
    assert abs(square - 7) < SIGNIFICANT * math.sqrt(14)


@pytest.mark.parametrize("variance", [Fraction(22, 7), Fraction(2**40 + 1)], ids=str)
def test_moments_and_tails_of_a_million_values(variance: Fraction) -> None:
    count = 1_000_000
    values = drawn(variance, count) / math.sqrt(variance)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = abs(float(np.mean(values**power)) - moment)
        assert error < SIGNIFICANT * math.sqrt(spread / count)
    if variance > 2**20:
        for beyond in (3.0, 3.5, 4.0):
            expected = count * math.erfc(beyond / math.sqrt(2))
            outside = int((np.abs(values) > beyond).sum())
            assert abs(outside - expected) < SIGNIFICANT * math.sqrt(expected)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """In standard deviations of what independent values would have."""
    return abs(float(np.corrcoef(one, other)[0, 1])) * math.sqrt(one.size)


def test_places_purposes_and_keys_are_independent() -> None:
    noise, count = DiscreteGaussian(Fraction(1000)), 100_000
    streams = SecretStreams(KEY)
    values = noise.draw(streams, "a", 0, count)
    assert correlation(values[:-1], values[1:]) < SIGNIFICANT
    assert correlation(values[: 2**15], values[2**15 : 2**16]) < SIGNIFICANT
    assert correlation(np.abs(values[:-1]), np.abs(values[1:])) < SIGNIFICANT
    for other in (
        noise.draw(streams, "b", 0, count),
        noise.draw(SecretStreams(bytes(32)), "a", 0, count),
    ):
        assert correlation(values, other) < SIGNIFICANT
        assert correlation(np.abs(values), np.abs(other)) < SIGNIFICANT


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(2**40)], ids=str)
def test_a_place_has_one_value_whatever_range_it_is_read_in(variance: Fraction) -> None:
    count = 100_000
    noise, streams = DiscreteGaussian(variance), SecretStreams(KEY)
    whole = noise.draw(streams, "test", 0, count)
    assert np.array_equal(drawn(variance, count), whole)
    for size in (9_999, 2**15, 70_000):
        parts = [
            noise.draw(streams, "test", start, min(count, start + size))
            for start in range(0, count, size)
        ]
        assert np.array_equal(np.concatenate(parts), whole)
    assert noise.draw(streams, "test", 5, 5).size == 0


def test_the_bytes_of_a_key_are_the_same_on_every_machine() -> None:
    assert drawn(Fraction(2**40), 6).tolist() == FIRST


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1), Fraction(2**62 + 1)])
def test_impossible_variances_are_refused(variance: Fraction) -> None:
    with pytest.raises(ValueError, match="variance"):
        DiscreteGaussian(variance)


class Scripted(SecretStreams):
    """Streams that say what a test wants of some draws."""

    def __init__(self, scripts: dict[str, np.ndarray]) -> None:
        super().__init__(KEY)
        object.__setattr__(self, "scripts", scripts)

    scripts: dict[str, np.ndarray]

    def words(self, purpose: str, number: int, count: int) -> np.ndarray:
        script = self.scripts.get(purpose)
        found = super().words(purpose, number, count)
        if script is not None:
            found[: script.size] = script[:count]
        return found


def close_heights(noise: DiscreteGaussian, base: int, inner: int) -> Iterator[tuple[int, bool]]:
    """Numbers of 96 bits around the density of a candidate, and whether they are below it."""
    power = Fraction((base + inner) ** 2 - base**2) / (2 * noise.variance)
    bound = exponential(power, 96)
    for gap in (2**65, 2**64, 2**50, 2**20, 2**8):
        for number, below in ((bound - gap, True), (bound + gap, False)):
            if number < 2**96:
                yield number, below


def test_candidates_at_the_density_are_decided_exactly() -> None:
    noise = DiscreteGaussian(Fraction(10**12, 7))
    width = noise._width
    cases = [
        (strip * width, inner, number, below)
        for strip in (0, 1, 5, 40)
        for inner in (0, 1, width // 3, width - 1)
        for number, below in close_heights(noise, strip * width, inner)
    ]
    edges = [0, *noise._edges.tolist()]
    streams = Scripted(
        {
            "test strip": np.array([edges[base // width] + 9 for base, *_ in cases], np.uint32),
            "test place": np.array([inner for _, inner, *_ in cases], np.uint32),
            "test height": np.array([number >> 64 for _, _, number, _ in cases], np.uint32),
        }
        | {
            f"test height {i}": np.array([number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF], "u4")
            for i, (_, _, number, _) in enumerate(cases)
        }
    )
    expected = [base + inner for base, inner, _, below in cases if below]
    assert noise.draw(streams, "test", 0, len(expected)).tolist() == expected
    assert 40 < len(expected) < len(cases) - 30


def test_a_word_on_the_edge_of_a_strip_goes_by_the_bits_after_it() -> None:
    noise = DiscreteGaussian(Fraction(22, 7))
    edges = noise._edges.tolist()
    exact = noise._cumulative(96)
    words = np.array([edges[2]] * 4, np.uint32)
    rest = exact[2] % 2**64
    after = {0: rest - 2**20, 1: rest + 2**20, 2: 0, 3: 2**64 - 1}
    scripts = {"test strip": words, "test place": np.zeros(4, np.uint32)}
    for i, number in after.items():
        scripts[f"test strip {i}"] = np.array([number >> 32, number % 2**32], np.uint32)
    assert noise.draw(Scripted(scripts), "test", 0, 4).tolist() == [2, 3, 2, 3]


def test_the_last_word_reaches_the_tail() -> None:
    """A value beyond 6.4 standard deviations, where a table of 32 bits would end."""
    noise = DiscreteGaussian(Fraction(1))
    last, zero = np.array([2**32 - 1], np.uint32), np.zeros(1, np.uint32)
    tail = np.array([2**32 - 1, 0], np.uint32)  # the uniform number is 1 − 2⁻⁶⁴
    streams = Scripted({"test strip": last, "test place": zero, "test strip 0": tail})
    weights = [math.exp(-y * y / 2) for y in range(30)]
    beyond = [sum(weights[y:]) / sum(weights) for y in range(30)]
    expected = sum(share > 2**-64 for share in beyond) - 1
    assert noise.draw(streams, "test", 0, 1).tolist() == [expected] == [9]
