"""Bootstrap intervals, against resampled examples and against the truth."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcli.evaluation.intervals import bootstrap_intervals
from fedcli.evaluation.metrics import confusion_matrix, score

Ints = NDArray[np.int64]


def counted(labels: Ints, predicted: Ints, classes: int) -> list[list[int]]:
    found: list[list[int]] = confusion_matrix(labels, predicted, classes).tolist()
    return found


def drawn(rng: np.random.Generator, size: int, classes: int) -> tuple[Ints, Ints]:
    shares = np.arange(1, classes + 1) / sum(range(1, classes + 1))
    labels = rng.choice(classes, size, p=shares)
    right = rng.random(size) < 0.7
    return labels, np.where(right, labels, rng.integers(0, classes, size))


@pytest.mark.parametrize("classes", [2, 4, 12])
def test_they_are_those_of_resampled_examples(classes: int) -> None:
    rng = np.random.default_rng(2)
    labels, predicted = drawn(rng, 150, classes)
    names = tuple(map(str, range(classes)))
    outputs = np.eye(classes, dtype=np.float32)
    resampled = []
    for _ in range(1500):
        chosen = rng.integers(0, 150, 150)
        resampled.append(score(labels[chosen], outputs[predicted[chosen]], names))
    intervals = bootstrap_intervals(counted(labels, predicted, classes))
    of_two = {"sensitivity", "specificity"} if classes == 2 else set()
    assert intervals.keys() == {"accuracy", "balanced_accuracy", "macro_f1"} | of_two
    for name, (low, high) in intervals.items():
        bounds = np.percentile([getattr(found, name) for found in resampled], [2.5, 97.5])
        # a bound varies by a tenth of the interval's width from one bootstrap to the next
        assert (low, high) == pytest.approx(bounds, abs=0.1 * (high - low)), name


def test_they_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([[0.4, 0.1], [0.15, 0.35]])
    expected = {"accuracy": 0.75, "sensitivity": 0.7, "specificity": 0.8}
    covered = dict.fromkeys(expected, 0)
    for _ in range(300):
        cells = rng.multinomial(200, truth.ravel()).reshape(2, 2).tolist()
        for name, value in expected.items():
            low, high = bootstrap_intervals(cells)[name]
            covered[name] += low <= value <= high
    assert all(0.91 <= hits / 300 <= 0.98 for hits in covered.values()), covered


def test_they_are_the_same_every_time_and_hold_the_score() -> None:
    cells = [[30, 5, 0], [4, 20, 1], [0, 0, 2]]
    found = bootstrap_intervals(cells)
    assert found == bootstrap_intervals(cells)
    low, high = found["accuracy"]
    assert low < 52 / 62 < high
    assert all(0 <= low <= high <= 1 for low, high in found.values())


def test_what_cannot_be_resampled_has_none() -> None:
    assert bootstrap_intervals([]) == {}
    assert bootstrap_intervals([[0, 0], [0, 0]]) == {}
    assert bootstrap_intervals([[2**62, 2**62], [2**62, 2**62]]) == {}
    assert bootstrap_intervals([[1] * 400] * 400) == {}
    # a class without examples has no sensitivity in any draw
    assert "sensitivity" not in bootstrap_intervals([[7, 3], [0, 0]])


@pytest.mark.parametrize(("classes", "seconds"), [(10, 0.2), (100, 1.0)])
def test_those_of_ten_thousand_examples_take_a_moment(classes: int, seconds: float) -> None:
    cells = counted(*drawn(np.random.default_rng(4), 10_000, classes), classes)
    started = time.process_time()
    bootstrap_intervals(cells)
    assert time.process_time() - started < seconds
