"""Scores, against definitions written out example by example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.evaluation.metrics import Scores, confusion_matrix, score
from fedcli.formats.records import encode

NAMES = ("ant", "bee", "cat")
predictions = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


def scored(labels: list[int], predicted: list[int], names: tuple[str, ...] = NAMES) -> Scores:
    """The scores of a model that is certain of what it predicts."""
    return score(np.array(labels), np.eye(len(names), dtype=np.float32)[predicted], names)


def test_three_classes_by_hand() -> None:
    scores = scored([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])
    assert scores.confusion == ((2, 1, 0), (0, 1, 1), (0, 0, 1))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert [row.f1 for row in scores.per_class] == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert scores.macro_f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert (scores.sensitivity, scores.specificity, scores.roc) == (None, None, None)
    assert encode(scores.per_class[0]) == {
        "class": "ant",
        "examples": 3,
        "accuracy": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 5),
    }


def test_a_class_without_examples_has_no_score_and_no_say() -> None:
    scores = scored([0, 0], [0, 2])
    assert scores.per_class[1].accuracy is None
    assert scores.per_class[2].f1 is None
    assert scores.balanced_accuracy == 0.5
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert (scores.auc, scores.auc_interval) == (None, None)


def test_the_second_of_two_classes_is_the_positive_one() -> None:
    scores = scored([0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0, 0], NAMES[:2])
    assert scores.sensitivity == pytest.approx(3 / 5)
    assert scores.specificity == pytest.approx(2 / 3)
    without_positives = scored([0, 0], [0, 1], NAMES[:2])
    assert (without_positives.sensitivity, without_positives.specificity) == (None, 0.5)
    assert (without_positives.auc, without_positives.roc) == (None, None)


@pytest.mark.parametrize("classes", [2, 3])
def test_outputs_near_the_largest_number_are_scored(classes: int) -> None:
    labels = np.array([0, 0, 1, 1])
    logits = np.zeros((4, classes), np.float32)
    logits[:, 0] = [3e38, -3e38, -3e38, -3e38]
    logits[:, 1] = [-3e38, 3e38, 3e38, 3e38]
    # one of two negatives lies below both positives, the other is tied with them
    assert score(labels, logits, NAMES[:classes]).auc == pytest.approx(0.75)


@given(predictions)
def test_scores_follow_their_definitions(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = (list(column) for column in zip(*pairs, strict=True))
    scores = scored(labels, predicted)
    assert scores.accuracy == pytest.approx(np.mean([a == b for a, b in pairs]))
    present = sorted(set(labels))
    recalls = [np.mean([b == k for a, b in pairs if a == k]) for k in present]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert sum(map(sum, scores.confusion)) == len(pairs)
    for true, row in enumerate(confusion_matrix(np.array(labels), np.array(predicted), 3)):
        for guess, count in enumerate(row):
            assert count == pairs.count((true, guess))
