"""Compute the scores of a classifier from its predictions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.evaluation import ClassScore

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """The scores of a set of predictions, as in ``evaluation.json``.

    ``confusion`` counts examples: rows are true classes, columns predicted classes. Macro averages
    are over the classes that have examples.
    """

    examples: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    auc: float | None
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """Count examples by true class (rows) and predicted class (columns)."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve, or None if one of the two classes is absent.

    It is the probability that a positive example scores above a negative one, where ties count
    half (the Mann–Whitney statistic; Hanley & McNeil 1982).
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[group]
    rank_sum = float(ranks[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def score(
    labels: Ints, predictions: Ints, classes: tuple[str, ...], margin: NDArray[Any] | None
) -> Scores:
    """Compute all scores.

    ``labels`` and ``predictions`` are class numbers (N,). ``margin`` (N,) is the logit of the
    second of two classes minus that of the first; None for any other number of classes.
    """
    matrix = confusion_matrix(labels, predictions, len(classes))
    true, predicted, hits = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    present = true > 0
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    return Scores(
        examples=len(labels),
        accuracy=float(hits.sum() / len(labels)),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        auc=None if margin is None else auc(margin, labels == 1),
        per_class=tuple(
            ClassScore(
                name,
                int(true[k]),
                float(recall[k]) if present[k] else None,
                float(f1[k]) if present[k] else None,
            )
            for k, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
    )
