"""Scores, against definitions written out example by example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.evaluation.metrics import auc, confusion_matrix, score
from fedcli.formats.records import encode

NAMES = ("ant", "bee", "cat")
predictions = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


def test_three_classes_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    scores = score(labels, predicted, NAMES, None)
    assert scores.confusion == ((2, 1, 0), (0, 1, 1), (0, 0, 1))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert [row.f1 for row in scores.per_class] == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert scores.macro_f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert scores.auc is None
    assert encode(scores.per_class[0]) == {
        "class": "ant",
        "examples": 3,
        "accuracy": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 5),
    }


def test_a_class_without_examples_has_no_score_and_no_say() -> None:
    scores = score(np.array([0, 0]), np.array([0, 2]), NAMES, None)
    assert scores.per_class[1].accuracy is None
    assert scores.per_class[2].f1 is None
    assert scores.balanced_accuracy == 0.5
    assert scores.macro_f1 == pytest.approx(2 / 3)


@given(predictions)
def test_scores_follow_their_definitions(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    scores = score(labels, predicted, NAMES, None)
    assert scores.accuracy == pytest.approx(np.mean([a == b for a, b in pairs]))
    present = sorted(set(labels.tolist()))
    recalls = [np.mean([b == k for a, b in pairs if a == k]) for k in present]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert sum(map(sum, scores.confusion)) == len(pairs)
    for true, row in enumerate(confusion_matrix(labels, predicted, 3)):
        for guess, count in enumerate(row):
            assert count == pairs.count((true, guess))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_probability_of_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([s for s, _ in pairs], np.float32)
    positive = np.array([p for _, p in pairs])
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, is_positive in pairs
        if is_positive
        for b, other in pairs
        if not other
    ]
    found = auc(scores, positive)
    if wins:
        assert found == pytest.approx(np.mean(wins))
    else:
        assert found is None
