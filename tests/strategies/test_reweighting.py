"""Rules that weigh clients anew, against the equations of their papers with explicit vectors."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decisions import RNG, decide, inputs, result, size

seeds = st.integers(0, 2**32)


def weiszfeld(updates, weights, smoothing, rounds):
    """Pillutla et al. 2022, algorithm 2, from the weighted mean."""
    v = np.average(updates, axis=0, weights=weights)
    for _ in range(rounds):
        distances = [np.linalg.norm(v - x) for x in updates]
        beta = [w / max(smoothing, d) for w, d in zip(weights, distances, strict=True)]
        v = sum(b * x for b, x in zip(beta, updates, strict=True)) / sum(beta)
    return v


@inputs
@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_rfa_takes_the_steps_of_the_smoothed_weiszfeld_algorithm(updates, rounds):
    weights = np.arange(1, 12)
    decision = decide("rfa", updates, weights, smoothing=1e-6, iterations=rounds)
    expected = weiszfeld(updates, weights, 1e-6, rounds)
    np.testing.assert_allclose(result(decision, updates), expected, atol=1e-10 * size(updates))
    assert decision.shares.weights.sum() == pytest.approx(1, abs=1e-14)


@settings(deadline=None, max_examples=20)
@given(seed=seeds, count=st.integers(3, 20))
def test_rfa_finds_the_point_with_the_least_sum_of_distances(seed, count):
    rng = np.random.default_rng(seed)
    updates, weights = rng.standard_normal((count, 8)), rng.uniform(0.5, 2, count)

    def objective(v):
        return weights @ np.linalg.norm(updates - v, axis=1)

    found = result(decide("rfa", updates, weights, iterations=1000), updates)
    pulls = (updates - found) / np.linalg.norm(updates - found, axis=1)[:, None]
    downhill = found + np.logspace(-9, 0, 50)[:, None] * (weights @ pulls)
    around = found + rng.standard_normal((100, 8)) * np.logspace(-4, 0, 100)[:, None]
    least = min(map(objective, [*downhill, *around, *updates]))
    # Weiszfeld's steps get short where one of the points is all but the median.
    assert objective(found) <= least * (1 + 1e-5)


@pytest.mark.parametrize(
    ("points", "weights", "median"),
    [
        ([0, 1, 5], [1, 1, 1], 1),
        ([0, 1, 5], [1, 1, 3], 5),
        ([-7, 0, 0, 0, 100], [1, 1, 1, 1, 1], 0),
        ([3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8, 2, 8, 1], 1),
        ([0, 1e6, 1e6 + 1, 1e6 + 2, -1e6], [1, 1, 1, 1, 1.5], 1e6),
    ],
)
def test_in_one_dimension_rfa_is_the_weighted_median(points, weights, median):
    updates = np.array(points, float)[:, None]
    along_a_line = updates * [[0.6, 0, 0.8]]
    for points, expected in ((updates, [median]), (along_a_line, np.array([0.6, 0, 0.8]) * median)):
        found = result(decide("rfa", points, weights, iterations=10_000), points)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=seeds, distance=st.floats(1, 1e4))
def test_rfa_moves_along_when_all_updates_are_moved(seed, distance):
    updates = np.random.default_rng(seed).standard_normal((7, 5))
    moved = updates + distance
    first, second = (decide("rfa", x).shares.weights for x in (updates, moved))
    np.testing.assert_allclose(second, first, atol=1e-13 * (1 + distance) ** 2)


@pytest.mark.parametrize("attack", [1e3, 1e9, 1e30, 1e38])
def test_rfa_stays_with_the_majority_however_far_the_others_are(attack):
    updates = np.vstack([RNG.standard_normal((6, 20)), np.full((5, 20), attack)])
    found = result(decide("rfa", updates), updates)
    honest = np.linalg.norm(updates[:6], axis=1).max()
    # The breakdown of the geometric median: (2n - 2m) / (n - 2m) times the honest radius.
    assert np.linalg.norm(found) <= (2 * 11 - 2 * 5) / (11 - 2 * 5) * honest


@inputs
@pytest.mark.parametrize("bound", [1e-30, 1.5, 1e30])
def test_clipped_mean_shortens_updates_that_are_longer_than_the_bound(updates, bound):
    weights = np.arange(1, 12)
    clipped = [x / max(1, np.linalg.norm(x) / bound) for x in updates]
    found = result(decide("clipped-mean", updates, weights, clip_norm=bound), updates)
    expected = np.average(clipped, axis=0, weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-13 * size(np.array(clipped)))


@inputs
@pytest.mark.parametrize("bound", [1e-30, 1.5, 1e30])
@pytest.mark.parametrize("rounds", [1, 2, 7])
@pytest.mark.parametrize("start", [None, 0.0, 0.7])
def test_centered_clipping_takes_the_steps_of_its_paper(updates, bound, rounds, start):
    """Karimireddy et al. 2021: v ← v + 1/n Σ (x_i - v) min(1, τ / |x_i - v|)."""
    center = None if start is None else np.full(updates.shape[1], start)
    v = np.zeros(updates.shape[1]) if center is None else center.copy()
    for _ in range(rounds):
        lengths = [np.linalg.norm(x - v) for x in updates]
        pulls = [
            (x - v) * min(1, bound / d) for x, d in zip(updates, lengths, strict=True) if d > 0
        ]
        v = v + sum(pulls, np.zeros_like(v)) / len(updates)
    decision = decide(
        "centered-clipping", updates, center=center, clip_norm=bound, iterations=rounds
    )
    # |x - v| is known from inner products to half of the digits where x and v are nearly the same.
    scale = max(size(updates), abs(start or 0))
    tolerance = 1e-12 * scale + 1e-7 * min(bound, scale)
    np.testing.assert_allclose(result(decision, updates, center), v, atol=tolerance)


def foolsgold_by_listing(updates):
    """Fung et al. 2020, algorithm 1; as in the authors' own program no v is below 0."""
    n = len(updates)
    cosines = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        lengths = np.linalg.norm(updates[i]) * np.linalg.norm(updates[j])
        cosines[i, j] = updates[i] @ updates[j] / lengths if lengths else 0
    v = [max(0, *(cosines[i, j] for j in range(n) if j != i)) for i in range(n)]
    alpha = np.zeros(n)
    for i in range(n):
        pardoned = [cosines[i, j] * (v[i] / v[j] if v[j] > v[i] else 1) for j in range(n) if j != i]
        alpha[i] = min(1, max(0, 1 - max(pardoned)))
    alpha /= max(alpha)
    for i in range(n):
        odds = np.inf if alpha[i] == 1 else alpha[i] / (1 - alpha[i])
        alpha[i] = min(1, max(0, np.log(odds) + 0.5)) if odds > 0 else 0
    return alpha


@pytest.mark.parametrize("scale", [1, 1e30, 1e-30])
@settings(deadline=None, max_examples=20)
@given(seed=seeds, count=st.integers(2, 9), dimension=st.integers(2, 8))
def test_foolsgold_gives_the_weights_of_its_listing(scale, seed, count, dimension):
    updates = np.random.default_rng(seed).standard_normal((count, dimension))
    found = decide("foolsgold", updates * scale)
    np.testing.assert_allclose(found.shares.weights, foolsgold_by_listing(updates), atol=1e-7)


def test_foolsgold_leaves_out_sybils_and_keeps_those_who_stand_apart():
    honest = np.eye(12)[:5]
    sybils = np.tile(RNG.standard_normal(12), (3, 1)) * [[1], [2], [3]]
    weights = decide("foolsgold", np.vstack([honest, sybils])).shares.weights
    assert (weights[:5] > 0.9).all()
    assert (weights[5:] == 0).all()


@given(seed=seeds, groups=st.integers(1, 4))
def test_foolsgold_keeps_all_where_nobody_stands_apart(seed, groups):
    """Each has another that points the same way; how their lengths are rounded decides nothing."""
    rng = np.random.default_rng(seed)
    directions = np.repeat(rng.standard_normal((groups, 50)), 2, axis=0)
    updates = directions * rng.uniform(0.1, 10, (2 * groups, 1))
    assert (decide("foolsgold", updates).shares.weights == 1).all()
