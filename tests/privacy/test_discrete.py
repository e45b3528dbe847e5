"""The bounds on discrete noise, against sums over the grid."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.private import discrete, gaussian

from fedcli.privacy import budget, delta_at, epsilon_at
from fedcli.privacy.discrete import concentrated_delta, concentrated_epsilon, rounding, splitting


def density(scale: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The discrete Gaussian at consecutive integers that hold all of it."""
    weights = np.exp(-(points**2) / (2 * scale**2))
    return weights / weights.sum()


def exact_delta(scale: float, shift: tuple[int, int], epsilon: float) -> float:
    """Σ max(0, P(k − shift) − e^ε P(k)) over a plane of two coordinates."""
    reach = math.ceil(12 * scale) + max(shift)
    points = np.arange(-reach, reach + 1.0)
    plain = density(scale, points)
    moved = [density(scale, points - step) for step in shift]
    excess = np.outer(*moved) - math.exp(epsilon) * np.outer(plain, plain)
    return float(np.maximum(0, excess).sum())


@pytest.mark.parametrize("scale", [1.0, 2.0, 5.0, 40.0])
@pytest.mark.parametrize("shift", [(5, 0), (3, 4)])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_no_neighbour_is_told_apart_better_than_the_bound(
    scale: float, shift: tuple[int, int], epsilon: float
) -> None:
    event = discrete(scale / 5, 1 / 5, 2)  # five steps of the grid are C
    found = exact_delta(scale, shift, epsilon)
    assert found <= delta_at([event], epsilon)
    assert found <= concentrated_delta(5 / scale, epsilon)
    apart = rounding({event: 1})
    assert found <= delta_at([gaussian(event.sigma)], epsilon) + (1 + math.exp(epsilon)) * apart


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0, 20.0, 300.0])
def test_the_total_variation_of_rounding_covers_the_distance_to_rounded_noise(scale: float) -> None:
    points = np.arange(-math.ceil(14 * scale), math.ceil(14 * scale) + 1.0)
    edges = [
        math.erf(x / (scale * math.sqrt(2))) for x in np.append(points - 0.5, points[-1] + 0.5)
    ]
    rounded, grid = np.diff(edges) / 2, density(scale, points)
    apart = float(np.abs(rounded - grid).sum()) / 2
    bound = rounding({discrete(scale, 1.0, 1): 1})
    assert apart <= bound <= 2.6 * apart


def test_the_total_variation_of_rounding_adds_up_over_rounds_and_coordinates() -> None:
    one = rounding({discrete(1.0, 1e-3, 1): 1})
    assert rounding({discrete(1.0, 1e-3, 9): 4}) == pytest.approx(6 * one)
    assert rounding({discrete(1.0, 1e-3, 10**15): 1}) == 1
    assert rounding({discrete(1.0, 2.0, 1): 1}) == 1
    assert rounding({gaussian(1.0): 5}) == 0


@pytest.mark.parametrize(
    ("sigma", "rounds", "delta", "epsilon"),
    [(1, 1, 1e-5, 4.72851), (5, 10, 1e-5, 2.81365), (10, 50, 1e-6, 3.54236)],
)
def test_concentration_costs_what_renyi_accountants_say(
    sigma: float, rounds: int, delta: float, epsilon: float
) -> None:
    found = concentrated_epsilon(math.sqrt(rounds) / sigma, delta)
    assert found == pytest.approx(epsilon, abs=2e-4)
    assert concentrated_delta(math.sqrt(rounds) / sigma, found) == pytest.approx(delta)


def summed(scale: float, parties: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The density of the sum of equal draws, whose scale together is given."""
    found = one = density(scale / math.sqrt(parties), points)
    for _ in range(parties - 1):
        found = np.convolve(found, one, mode="same")
    return found


@pytest.mark.parametrize("parties", [2, 3, 8])
@pytest.mark.parametrize("each", [0.5, 0.7, 1.0])
def test_draws_of_parties_are_within_the_bound_of_one_draw(parties: int, each: float) -> None:
    scale = each * math.sqrt(parties)
    points = np.arange(-60, 61.0)
    apart = float(np.abs(summed(scale, parties, points) - density(scale, points)).sum()) / 2
    bound = splitting({discrete(scale, 1.0, 1, parties=parties): 1})
    assert apart <= bound <= (parties - 1) * 8 * math.exp(-((math.pi * each) ** 2))
    assert splitting({discrete(scale, 1.0, 5, parties=parties): 3}) == pytest.approx(
        min(1.0, 15 * bound)
    )


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_no_neighbour_is_told_apart_better_through_draws_of_parties(epsilon: float) -> None:
    event = discrete(0.5, 1 / 4, 1, parties=4)  # draws of scale 1; four steps of the grid are C
    points = np.arange(-60, 61.0)
    plain = summed(2.0, 4, points)
    excess = np.roll(plain, 4) - math.exp(epsilon) * plain
    assert float(np.maximum(0, excess).sum()) <= delta_at([event], epsilon)
    assert delta_at([event], epsilon) > delta_at([replace(event, parties=None)], epsilon)


def test_draws_of_parties_on_a_fine_grid_cost_no_more_than_one() -> None:
    one = discrete(1.0, 2.0**-12, 1000)
    assert epsilon_at([replace(one, parties=100)], 1e-5) == epsilon_at([one], 1e-5)
    assert epsilon_at([replace(one, parties=2**62)], 1e-5) == math.inf


def test_a_fine_grid_costs_as_little_as_real_noise() -> None:
    resnet = discrete(1.0, 2.0**-30, 11_000_000)
    found = budget([resnet], 1e-5)
    assert 4.377178 < found.epsilon < 4.37720
    assert not found.exact


def test_a_coarse_grid_costs_what_concentration_says() -> None:
    coarse = discrete(1.0, 0.5, 11_000_000)
    assert epsilon_at([coarse], 1e-5) == concentrated_epsilon(1.0, 1e-5)


@given(
    sigma=st.floats(0.3, 20),
    grid=st.floats(1e-6, 10),
    delta=st.floats(1e-10, 0.1),
    more=st.floats(1.0, 4.0),
)
def test_epsilon_falls_with_noise_delta_and_a_finer_grid(
    sigma: float, grid: float, delta: float, more: float
) -> None:
    event = discrete(sigma, grid, 1000)
    base = epsilon_at([event], delta) * (1 + 1e-9)
    assert epsilon_at([gaussian(sigma)], delta) <= base
    assert epsilon_at([replace(event, sigma=sigma * more)], delta) <= base
    assert epsilon_at([replace(event, grid=grid / more)], delta) <= base
    assert epsilon_at([event], delta * more) <= base
