"""The exact formula, against an integral over both densities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.privacy.gaussian import gaussian_delta, gaussian_epsilon

shifts = st.floats(1e-3, 50)
deltas = st.floats(1e-12, 0.5)


def integrated(mu: float, epsilon: float) -> float:
    """∫ max(0, p − e^ε q) for normal densities p and q with unit variance, μ apart."""
    x, step = np.linspace(-14, mu + 14, 400_001, retstep=True)
    excess = np.exp(-((x - mu) ** 2) / 2) - np.exp(epsilon - x**2 / 2)
    return float(np.maximum(0, excess).sum() * step / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("mu", [0.01, 0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 5.0, 20.0])
def test_delta_is_the_mass_that_the_other_density_does_not_cover(mu: float, epsilon: float) -> None:
    assert gaussian_delta(mu, epsilon) == pytest.approx(integrated(mu, epsilon), rel=1e-6, abs=1e-9)


@given(mu=shifts, delta=deltas)
def test_epsilon_is_the_smallest_that_keeps_delta(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_delta(mu, epsilon) <= delta
    if epsilon > 0:
        assert gaussian_delta(mu, epsilon * (1 - 1e-9)) > delta * (1 - 1e-12)


@given(mu=shifts, delta=deltas, more=st.floats(1.0, 3.0))
def test_more_noise_or_a_larger_delta_never_costs_more(
    mu: float, delta: float, more: float
) -> None:
    assert gaussian_epsilon(mu * more, delta) >= gaussian_epsilon(mu, delta)
    assert gaussian_epsilon(mu, min(0.9, delta * more)) <= gaussian_epsilon(mu, delta)


def test_extremes_neither_overflow_nor_lose_their_digits() -> None:
    assert gaussian_delta(0.0, 0.0) == 0
    assert gaussian_delta(math.inf, 5.0) == 1
    assert gaussian_delta(1e4, 1e6) == pytest.approx(1.0)
    assert gaussian_delta(100.0, 6000.0) == pytest.approx(integrated_tail(10.0, 110.0), rel=1e-9)
    assert gaussian_epsilon(1e200, 1e-5) == math.inf
    assert gaussian_epsilon(1e-9, 1e-5) == 0
    assert gaussian_epsilon(1.0, 1e-300) == pytest.approx(37.4, abs=0.5)


def integrated_tail(near: float, far: float) -> float:
    """φ(near)·(M(near) − M(far)) with Mills' ratio M(x) = ∫ exp(−xt − t²/2) over t ≥ 0."""
    t, step = np.linspace(0, 5, 2_000_001, retstep=True)
    difference = np.exp(-near * t - t**2 / 2) - np.exp(-far * t - t**2 / 2)
    density = math.exp(-near * near / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(difference, dx=step)) * density
