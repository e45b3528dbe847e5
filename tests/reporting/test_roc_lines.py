"""ROC curves as a report draws them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sample_runs import make_run, score, write_evaluation

from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.page import to_html
from fedcli.reporting.roc_lines import roc_lines
from fedcli.run import Run
from fedcli.steps.report import report

TWO = ("benign", "malignant")
STEEP = {"false_positives": [0, 0, 100], "true_positives": [0, 50, 100]}
FLAT = {"false_positives": [0, 100], "true_positives": [0, 100]}


def run_with(root: Path, curve: dict[str, Any] | None, auc: float, **made: Any) -> Run:
    run = make_run(root, classes=TWO, accuracies=(0.5,), **made)
    write_evaluation(run.round(1), [score(run, 0.5, roc=curve, auc=auc)])
    return run


def test_a_run_has_its_very_points_and_its_area_in_the_label(tmp_path: Path) -> None:
    (line,) = roc_lines(report([run_with(tmp_path / "a", STEEP, 0.75)]))
    assert line.label.endswith(" (AUC 0.750)")
    assert (line.x, line.y) == ([0, 0, 1], [0, 0.5, 1])
    assert not line.lower


def test_repetitions_are_averaged_at_each_specificity(tmp_path: Path) -> None:
    runs = [
        run_with(tmp_path / str(seed), curve, auc, seed=seed)
        for seed, (curve, auc) in enumerate([(STEEP, 0.75), (FLAT, 0.5)])
    ]
    (line,) = roc_lines(report(runs))
    assert line.label.endswith(" (AUC 0.625)")
    x, y = np.array(line.x[1:]), np.array(line.y[1:], float)
    assert (line.x[0], line.y[0]) == (0, 0)
    # one is 0.5 + 0.5 x, the other x
    assert y == pytest.approx(0.25 + 0.75 * x)
    deviation = 0.5 * (1 - x) / np.sqrt(2)
    assert np.array(line.upper[1:], float) == pytest.approx((y + deviation).clip(max=1))
    assert np.array(line.lower[1:], float) == pytest.approx((y - deviation).clip(0))


def test_methods_without_a_curve_have_no_line_and_a_page_without_any_no_figure(
    tmp_path: Path,
) -> None:
    bare = run_with(tmp_path / "bare", None, 0.5, plan=Plan(TrainPlan.of(lr=0.3)))
    assert roc_lines(report([bare])) == []
    assert "ROC" not in to_html(report([bare]))
    found = report([bare, run_with(tmp_path / "a", STEEP, 0.75)])
    assert len(roc_lines(found)) == 1
    assert "ROC curve" in to_html(found)
