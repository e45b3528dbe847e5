"""ROC curves and their areas, against definitions written out pair by pair."""

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedcli.evaluation.roc import MOST_POINTS, Area, area_of_many, area_of_two, roc_curve

# few values, so that many scores are tied
tied = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40)


def columns(pairs: list[tuple[int, bool]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return np.array([s for s, _ in pairs], float), np.array([int(p) for _, p in pairs])


def pairwise(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and a negative example in the right order."""
    wins = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    return float(np.mean(wins))


def mean_of_areas(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The mean over the classes that are there of each against the rest, by its probability."""
    powers = np.exp(logits.astype(float))
    shares = powers / powers.sum(1, keepdims=True)
    return float(np.mean([pairwise(shares[:, k], labels == k) for k in set(labels.tolist())]))


def drawn(rng: np.random.Generator, size: int, shift: float = 1.2) -> tuple[Any, Any]:
    labels = (rng.random(size) < 0.4).astype(int)
    return np.round(rng.normal(size=size) + shift * labels, 1), labels


@given(tied)
def test_the_area_is_the_probability_of_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    margin, labels = columns(pairs)
    if len(set(labels.tolist())) < 2:
        assert area_of_two(margin, labels) == Area(None, None)
    else:
        assert area_of_two(margin, labels).auc == pytest.approx(pairwise(margin, labels == 1))


@given(tied)
def test_the_curve_counts_what_lies_above_each_threshold(pairs: list[tuple[int, bool]]) -> None:
    margin, labels = columns(pairs)
    curve = roc_curve(margin, labels)
    if curve is None:
        assert len(set(labels.tolist())) < 2
        return
    thresholds = [np.inf, *sorted(set(margin.tolist()), reverse=True)]
    points = [
        (sum(labels[margin >= least] == 0), sum(labels[margin >= least] == 1))
        for least in thresholds
    ]
    found = list(zip(curve.false_positives, curve.true_positives, strict=True))
    assert set(found) <= set(points)
    assert (found[0], found[-1]) == (points[0], points[-1])
    # the points left out lie on straight lines
    x, y = (np.array(side) for side in zip(*curve.points, strict=True))
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    assert area == pytest.approx(pairwise(margin, labels == 1))


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 20_000)
    margin = rng.normal(size=20_000) + labels
    curve = roc_curve(margin, labels)
    assert curve is not None
    assert 0.9 * MOST_POINTS <= len(curve.points) <= MOST_POINTS
    assert (curve.points[0], curve.points[-1]) == ((0, 0), (1, 1))
    steps = np.abs(np.diff(np.array(curve.points), axis=0)).sum(1)
    assert steps.max() < 2 * 2 / MOST_POINTS
    x, y = np.array(curve.points).T
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    assert area == pytest.approx(area_of_two(margin, labels).auc, abs=1e-3)


def test_of_many_classes_each_stands_against_the_rest() -> None:
    rng = np.random.default_rng(3)
    for labels in (rng.integers(0, 4, 60), rng.choice([0, 3], 60), np.arange(60) % 3):
        few = rng.normal(size=(4, 5, 4)) + np.eye(4)[:, None]
        few[:, 0] = few[0, 0]  # outputs that examples of all classes share
        logits = few[labels, rng.integers(0, 5, 60)].astype(np.float32)
        assert area_of_many(logits, labels).auc == pytest.approx(mean_of_areas(logits, labels))
    one_class = np.zeros(5, int)
    assert area_of_many(np.zeros((5, 4), np.float32), one_class) == Area(None, None)


def test_probabilities_that_are_all_but_one_keep_their_order() -> None:
    logits = np.array([[90, 0, 0], [80, 0, 0], [60, 0, 0], [0, 1, 0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    assert area_of_many(logits, labels).auc == pytest.approx((1 + 0.75) / 2)


def test_two_classes_and_many_agree() -> None:
    rng = np.random.default_rng(8)
    margin, labels = drawn(rng, 80)
    logits = np.stack([np.zeros(80), margin], 1).astype(np.float32)
    two, many = area_of_two(margin, labels), area_of_many(logits, labels)
    assert two.auc == pytest.approx(many.auc)
    assert two.interval == pytest.approx(many.interval)


def test_the_interval_is_delongs_on_the_logit_scale() -> None:
    margin, labels = drawn(np.random.default_rng(4), 70)
    found = area_of_two(margin, labels)
    positive, negative = margin[labels == 1], margin[labels == 0]
    wins = (positive[:, None] > negative) + (positive[:, None] == negative) / 2
    variance = wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)
    auc = wins.mean()
    reach = 1.959964 * np.sqrt(variance) / (auc * (1 - auc))
    ends = np.log(auc / (1 - auc)) + np.array([-reach, reach])
    assert found.interval == pytest.approx(1 / (1 + np.exp(-ends)))


def test_the_interval_is_that_of_resampled_examples() -> None:
    """Of many classes too: an interval of percentiles, which draws examples with replacement."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 400)
    logits = (rng.normal(size=(400, 3)) + 0.8 * np.eye(3)[labels]).astype(np.float32)
    areas = []
    for _ in range(600):
        rows = rng.integers(0, 400, 400)
        areas.append(area_of_many(logits[rows], labels[rows]).auc)
    low, high = area_of_many(logits, labels).interval or (0, 0)
    assert (low, high) == pytest.approx(
        np.percentile(np.array(areas, float), [2.5, 97.5]), abs=6e-3
    )
    assert high - low > 0.05


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    shift = 2.0
    truth = 0.5 * (1 + math.erf(shift / 2))  # P(N(shift, 2) > 0)
    covered = []
    for _ in range(400):
        labels = np.arange(60) % 2
        low, high = area_of_two(rng.normal(size=60) + shift * labels, labels).interval or (0, 0)
        covered.append(low <= truth <= high)
    assert 0.92 <= np.mean(covered) <= 0.99


def test_one_example_of_a_class_has_no_interval() -> None:
    found = area_of_two(np.array([0.0, 2, 1, 3]), np.array([0, 0, 0, 1]))
    assert found == Area(1.0, None)


def test_areas_of_ten_thousand_examples_take_a_moment() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 10_000)
    logits = rng.normal(size=(10_000, 10)).astype(np.float32)
    started = time.process_time()
    area_of_many(logits, labels)
    assert time.process_time() - started < 0.5
