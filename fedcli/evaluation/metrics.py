"""Compute the scores of a classifier from its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.evaluation.roc import area_of_many, area_of_two, roc_curve
from fedcli.formats.evaluation import ClassScore, RocCurve

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
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    auc: float | None
    auc_interval: tuple[float, float] | None
    sensitivity: float | None = None
    specificity: float | None = None
    roc: RocCurve | None = None


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """Count examples by true class (rows) and predicted class (columns)."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def score(labels: Ints, logits: NDArray[np.float32], classes: tuple[str, ...]) -> Scores:
    """Compute all scores.

    ``labels`` are class numbers (N,), ``logits`` (N, K). Of two classes the second is the positive
    one. An example counts as the class with the largest logit, the first of several.
    """
    matrix = confusion_matrix(labels, logits.argmax(1), len(classes))
    true, predicted, hits = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    present = true > 0
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    per_class = tuple(
        ClassScore(
            name,
            int(true[k]),
            float(recall[k]) if present[k] else None,
            float(f1[k]) if present[k] else None,
        )
        for k, name in enumerate(classes)
    )
    return Scores(
        examples=len(labels),
        accuracy=float(hits.sum() / len(labels)),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        **(_of_two if len(classes) == 2 else _of_many)(labels, logits, per_class),
    )


def _of_two(
    labels: Ints, logits: NDArray[np.float32], per_class: Sequence[ClassScore]
) -> dict[str, Any]:
    margin = np.subtract(logits[:, 1], logits[:, 0], dtype=np.float64)
    area = area_of_two(margin, labels)
    return {
        "sensitivity": per_class[1].accuracy,
        "specificity": per_class[0].accuracy,
        "auc": area.auc,
        "auc_interval": area.interval,
        "roc": roc_curve(margin, labels),
    }


def _of_many(
    labels: Ints, logits: NDArray[np.float32], per_class: Sequence[ClassScore]
) -> dict[str, Any]:
    area = area_of_many(logits, labels)
    return {"auc": area.auc, "auc_interval": area.interval}
