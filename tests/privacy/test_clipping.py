"""Clipping: nothing is longer than C on the grid, and C moves to where it is asked to."""

import math
from fractions import Fraction

import numpy as np
import pytest
from support.private import ADD_REMOVE, REPLACE, gaussian

from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.privacy import budget
from fedcli.privacy.clipping import clip_factors, grid_of, next_clip, sum_noise


@pytest.mark.parametrize("clip", [1e-30, 0.1, 1.0, 3.0, 1e30])
@pytest.mark.parametrize("sigma", [1e-3, 0.5, 1.0, 7.0, 1e6])
def test_the_grid_is_a_power_of_two_and_the_noise_a_million_units(
    sigma: float, clip: float
) -> None:
    grid = grid_of(sigma, clip)
    assert math.frexp(grid)[0] == 0.5
    assert 2**20 <= sigma * clip / grid < 2**21 or sigma == 1e-3
    assert clip / grid <= 2**30


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_no_contribution_is_longer_than_c_on_the_grid(size: int) -> None:
    """In exact arithmetic, for vectors whose computed norm is just above and below C."""
    rng = np.random.default_rng(size)
    for clip in (0.1, 1.0, 3.7):
        step = rng.standard_normal(size)
        for length in (1 - 1e-15, 1, 1 + 1e-15, 50):
            own = step / np.linalg.norm(step) * clip * length
            norm = np.sqrt(np.array([(own * own).sum()]))
            grid = grid_of(1.0, clip)
            units = (own * (clip_factors(norm, clip, size)[0] / grid)).astype(np.int64)
            square = sum(int(unit) ** 2 for unit in units.tolist())
            assert square <= (Fraction(clip) / Fraction(grid)) ** 2


def test_factors_of_norms_that_are_zero_small_large_or_none() -> None:
    norms = np.array([0.0, 0.5, 2.0, 1e300, np.inf, np.nan])
    factors = clip_factors(norms, 1.0, 10)
    np.testing.assert_allclose(factors, [1, 1, 0.5, 1e-300, 0, 0])
    assert clip_factors(np.array([1.0]), 1.0, 10**7)[0] < 1


@pytest.mark.parametrize("relation", [ADD_REMOVE, REPLACE])
@pytest.mark.parametrize(("noise", "count_noise"), [(0.5, 0.3), (1.0, 5.0), (4.0, 4.0)])
def test_sum_and_count_cost_together_what_the_sum_would(
    noise: float, count_noise: float, relation: Relation
) -> None:
    """As the accountant sees it, with the count's sensitivity of a half."""
    found = sum_noise(noise, count_noise)
    assert found > noise
    count = PrivacyEvent(Mechanism.GAUSSIAN, 2 * count_noise, 0.5, 7.0, relation)
    together = budget([gaussian(found, relation=relation), count], 1e-5).epsilon
    alone = budget([gaussian(noise, relation=relation)], 1e-5).epsilon
    assert together == pytest.approx(alone, rel=1e-9)
    assert sum_noise(0.0, 0.0) == 0


@pytest.mark.parametrize("start", [0.1, 0.5, 10.0])
def test_the_adaptive_norm_ends_at_the_median_from_every_start(start: float) -> None:
    """The classical setting: γ = 0.5, η = 0.2, and 100 clients whose median norm is 1."""
    norms = np.exp(np.random.default_rng(0).standard_normal(10_000))
    norms /= np.median(norms)
    clip = start
    for _ in range(150):
        clip = next_clip(clip, float(np.mean(norms <= clip)), 0.5, 0.2)
    assert clip == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("target", [0.1, 0.9])
def test_the_adaptive_norm_ends_at_the_quantile_asked_for(target: float) -> None:
    norms = np.linspace(0.01, 2.0, 200)
    clip = 1.0
    for _ in range(500):
        clip = next_clip(clip, float(np.mean(norms <= clip)), target, 0.2)
    assert clip == pytest.approx(np.quantile(norms, target), rel=0.06)


def test_the_adaptive_norm_stays_a_number() -> None:
    clip = 1.0
    for _ in range(10):
        clip = next_clip(clip, -1e9, 0.5, 1e9)
    assert clip == 1e30
    for _ in range(10):
        clip = next_clip(clip, 1e9, 0.5, 1e9)
    assert clip == 1e-30
