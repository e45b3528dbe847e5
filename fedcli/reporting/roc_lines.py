"""The ROC curves of methods, as lines of a plot."""

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.evaluation import RocCurve
from fedcli.reporting.diagrams import Line
from fedcli.reporting.metric import METRICS
from fedcli.reporting.report import Method, Report
from fedcli.text import printable

Floats = NDArray[np.float64]

X, Y = "1 − specificity", "sensitivity"  # the names of the axes
CHANCE = Line("chance", [0.0, 1.0], [0.0, 1.0])
_RATES = np.linspace(0, 1, 101)


def roc_lines(report: Report) -> list[Line]:
    """Return the ROC curve of each method that has one, with its AUC in the label.

    x and y are rates of false and of true positives, from 0 to 1. The curve of several runs is
    their mean sensitivity at each specificity, with a band of one standard deviation (vertical
    averaging; Fawcett 2006, section 8).
    """
    curves = {run.label: run.roc for run in report.runs}
    found = (
        (method, [curve for label in method.runs if (curve := curves[label])])
        for method in report.methods
    )
    return [_line(method, own) for method, own in found if own]


def _line(method: Method, curves: list[RocCurve]) -> Line:
    auc = method.final.get("auc")
    area = "" if auc is None else f" (AUC {METRICS['auc'].show(auc.mean)})"
    label = f"{printable(method.label)}{area}"
    if len(curves) == 1:
        points = curves[0].points
        return Line(label, [x for x, _ in points], [y for _, y in points])
    heights = np.array([_sensitivities(curve) for curve in curves])
    mean, std = heights.mean(0), heights.std(0, ddof=1)
    start = [0.0]  # a curve rises from 0 where nothing is called positive
    return Line(
        label,
        [*start, *_RATES.tolist()],
        [*start, *mean.tolist()],
        lower=[*start, *(mean - std).clip(0).tolist()],
        upper=[*start, *(mean + std).clip(max=1).tolist()],
    )


def _sensitivities(curve: RocCurve) -> Floats:
    """Return the sensitivity at each of ``_RATES``; where a curve rises straight up, the top."""
    x, y = np.array(curve.points).T
    left = np.searchsorted(x, _RATES, side="right") - 1
    right = np.minimum(left + 1, len(x) - 1)
    width = np.where(right > left, x[right] - x[left], 1.0)
    rates: Floats = y[left] + (y[right] - y[left]) * (_RATES - x[left]) / width
    return rates
