"""The metric that a report judges runs by."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.grey_runs import Cli
from support.reports import terminal_text
from support.sample_runs import make_run, score, write_evaluation

from fedcli.errors import UsageError
from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.metric import METRICS
from fedcli.reporting.page import to_html
from fedcli.run import Run
from fedcli.steps.report import report

TWO = ("benign", "malignant")
# what a run's rounds score, so that each metric has another best round
FIGURES: list[dict[str, Any]] = [
    {"loss": 0.9, "macro_f1": 0.35, "auc": 0.91, "sensitivity": 0.2, "specificity": 0.99},
    {"loss": 0.3, "macro_f1": 0.36, "auc": 0.61, "sensitivity": 0.8, "specificity": 0.41},
    {"loss": 0.4, "macro_f1": 0.39, "auc": 0.62, "sensitivity": 0.5, "specificity": 0.42},
]
BEST = {"loss": (0.3, 2), "macro_f1": (0.39, 3), "auc": (0.91, 1), "sensitivity": (0.8, 2)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = make_run(tmp_path / "r", classes=TWO)
    for number, figures in enumerate(FIGURES, 1):
        accuracy = (0.7, 0.75, 0.72)[number - 1]
        write_evaluation(made.round(number), [score(made, accuracy, **figures)])
    return made


@pytest.mark.parametrize("name", BEST)
def test_it_chooses_the_headline_and_the_best_round(run: Run, name: str) -> None:
    found = report([run], metric=name)
    (row,) = found.summary
    assert row.value == FIGURES[-1][name]
    assert (row.best, row.best_round) == BEST[name]
    assert row.accuracy == 0.72


@pytest.mark.parametrize(("metric", "shown"), [("sensitivity", "80.0"), ("loss", "0.300")])
def test_it_is_the_first_figure_and_the_curve_of_every_view(
    run: Run, metric: str, shown: str
) -> None:
    found = report([run], metric=metric)
    axis = METRICS[metric].axis
    text, markdown, page = terminal_text(found), to_markdown(found), to_html(found)
    assert axis in text
    assert f"{shown} (round 2)" in text
    assert f"| method | rounds | {axis} |" in markdown
    assert f"{shown} (round 2)" in markdown
    assert f"{metric.capitalize()} over rounds" in page
    assert "Accuracy over rounds" not in page
    curve = next(line for line in text.splitlines() if line.startswith(axis))
    assert curve.split()[-1] == METRICS[metric].show(FIGURES[-1][metric])


def test_several_runs_are_compared_by_it(run: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", classes=TWO)
    found = report([run, other], metric="balanced-accuracy")
    text = terminal_text(found)
    assert "Balanced accuracy (%) by round" in text
    assert "Accuracy (%) by round" not in text.replace("Balanced accuracy", "")
    assert "Evaluations: balanced accuracy (%)" in text


@pytest.mark.parametrize("spelling", ["balanced-accuracy", "balanced_accuracy", "Macro-F1"])
def test_it_is_spelled_with_hyphens_or_underscores(run: Run, cli: Cli, spelling: str) -> None:
    status, out, err = cli("report", run.root, "--metric", spelling, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["metric"] == spelling.replace("-", "_").casefold()
    assert found["summary"][0]["value"] is not None


def test_an_unknown_one_is_refused_with_a_suggestion(run: Run) -> None:
    with pytest.raises(UsageError, match=r"expected one of accuracy, .*'acuracy'") as fault:
        report([run], metric="acuracy")
    assert fault.value.hint == "did you mean --metric accuracy?"
    with pytest.raises(UsageError) as fault:
        report([run], metric="spec")
    assert fault.value.hint == "did you mean --metric specificity?"


@pytest.mark.parametrize("count", [1, 3])
def test_the_main_table_of_two_classes_leaves_room_for_names(tmp_path: Path, count: int) -> None:
    runs = []
    for number in range(count):
        made = make_run(tmp_path / f"hospital-{number}", classes=TWO)
        write_evaluation(made.round(3), [score(made, 0.5, **FIGURES[0])])
        runs.append(made)
    text = terminal_text(report(runs, metric="sensitivity"))
    table = text.split("method", 1)[1].split("note", 1)[0]
    assert all(f"hospital-{number} " in table for number in range(count)), table
    assert max(map(len, text.splitlines())) <= 80


def test_a_run_that_does_not_have_it_says_why(tmp_path: Path, run: Run) -> None:
    four = make_run(tmp_path / "four")
    found = report([run, four], metric="sensitivity")
    assert found.summary[1].value is None
    texts = [note.text for note in found.notes]
    assert "four has no sensitivity: only two classes have it, and this run has 4" in texts
    (note,) = report([four], metric="auc").notes
    assert note.text == "four has no AUC: its evaluation.json does not hold it; score it again"
    assert note.command == f"fedcli evaluate --run {four.root} --round all"


def test_examples_of_one_class_say_why_a_metric_is_missing(tmp_path: Path) -> None:
    made = make_run(tmp_path / "one", classes=TWO)
    rows = [
        {"class": "benign", "examples": 10, "accuracy": 0.5, "f1": 0.5},
        {"class": "malignant", "examples": 0, "accuracy": None, "f1": None},
    ]
    write_evaluation(made.round(3), [score(made, 0.5, per_class=rows, sensitivity=None)])
    (note,) = report([made], metric="sensitivity").notes
    assert note.text == "one has no sensitivity: there are no examples of malignant to score on"


def test_a_single_run_has_intervals_of_the_scores_that_its_examples_determine(run: Run) -> None:
    write_evaluation(run.round(3), [score(run, 0.72, auc=0.62, auc_interval=[0.5, 0.7])])
    found = report([run])
    low, high = found.summary[0].intervals["accuracy"]
    # 200 examples: 1.96 standard errors of a binomial distribution
    assert (0.72 - low, high - 0.72) == pytest.approx((0.062, 0.062), abs=0.006)
    assert found.summary[0].intervals["auc"] == (0.5, 0.7)
    shown = f"72.0 [{100 * low:.1f}, {100 * high:.1f}]"
    for text in (terminal_text(found), to_markdown(found).replace("\\", ""), to_html(found)):
        assert shown in text
        assert "[low, high]: 95 % interval" in text
    assert "| AUC | 0.620 | 0.500 | 0.700 |" in to_markdown(found)
    assert "0.620 [0.500, 0.700]" in terminal_text(report([run], metric="auc"))


def test_several_runs_have_no_intervals_of_their_own(run: Run, tmp_path: Path) -> None:
    found = report([run, make_run(tmp_path / "other", classes=TWO)])
    assert [row.intervals for row in found.summary] == [{}, {}]
    assert "interval" not in terminal_text(found)


@pytest.mark.parametrize(
    ("metric", "chance"),
    [
        ("accuracy", 0.75),
        ("balanced_accuracy", 0.5),
        ("auc", 0.5),
        ("loss", math.log(2)),
        ("sensitivity", None),
    ],
)
def test_chance_is_what_a_model_scores_that_sees_nothing(
    tmp_path: Path, metric: str, chance: float | None
) -> None:
    made = make_run(tmp_path / "r", classes=TWO)
    rows = [
        {"class": name, "examples": count, "accuracy": 0.5, "f1": 0.5}
        for name, count in zip(TWO, (75, 25), strict=True)
    ]
    write_evaluation(made.round(3), [score(made, 0.6, per_class=rows)])
    assert report([made], metric=metric).chance == chance


@pytest.mark.parametrize(("benign", "chance"), [(752, 0.751), (500, None)])
def test_test_sets_that_are_nearly_alike_have_one_line_of_chance(
    tmp_path: Path, benign: int, chance: float | None
) -> None:
    runs = []
    for name, of_first in (("a", 750), ("b", benign)):
        made = make_run(tmp_path / name, classes=TWO)
        rows = [
            {"class": one, "examples": count, "accuracy": 0.5, "f1": 0.5}
            for one, count in zip(TWO, (of_first, 1000 - of_first), strict=True)
        ]
        write_evaluation(made.round(3), [score(made, 0.6, per_class=rows)])
        runs.append(made)
    assert report(runs).chance == (None if chance is None else pytest.approx(chance))


def test_the_roc_curve_is_that_of_the_latest_score_of_the_headline(run: Run) -> None:
    curve = {"false_positives": [0, 10, 100], "true_positives": [0, 80, 100]}
    older = {"false_positives": [0, 100], "true_positives": [0, 100]}
    write_evaluation(run.round(2), [score(run, 0.5, roc=older)])
    write_evaluation(run.round(3), [score(run, 0.8, roc=curve)])
    (found,) = report([run]).runs
    assert found.roc is not None
    assert found.roc.points == [(0, 0), (0.1, 0.8), (1, 1)]
    assert all(one.roc is None for round_ in found.rounds for one in round_.scores)
