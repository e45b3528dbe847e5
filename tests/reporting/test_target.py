"""What runs needed to reach a target."""

import json
from pathlib import Path

import pytest
from support.grey_runs import Cli
from support.reports import terminal_text
from support.sample_runs import edit_manifest, make_run, score, write_evaluation

from fedcli.errors import UsageError
from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.page import to_html
from fedcli.run import Run
from fedcli.steps.report import report


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three clients, which take a second longer each and in each round."""
    made = make_run(tmp_path / "r", accuracies=(0.4, 0.55, 0.5, 0.6))
    for number in range(1, 5):
        edit_manifest(made.round(number), seconds=0.5)
    return made


def test_it_is_the_first_evaluated_round_that_is_as_good(run: Run) -> None:
    found = report([run], target=0.55)
    (row,) = found.attainments
    assert (row.round, row.value, row.best) == (2, 0.55, 0.6)
    assert row.bytes_total == found.runs[0].rounds[2].bytes_total
    # training 3 and 4 s, aggregation half a second each, evaluation a quarter
    assert row.seconds == pytest.approx(3 + 4 + 2 * 0.5 + 2 * 0.25)


def test_rounds_without_a_score_cost_time_but_reach_nothing(run: Run) -> None:
    run.round(2).evaluation.unlink()
    (row,) = report([run], target=0.55).attainments
    assert row.round == 4
    assert row.seconds == pytest.approx(3 + 4 + 5 + 6 + 4 * 0.5 + 3 * 0.25)


def test_a_time_that_is_not_known_is_not_made_up(run: Run) -> None:
    for client in run.info.clients:
        run.round(1).telemetry(client).unlink()
    (row,) = report([run], target=0.55).attainments
    assert (row.round, row.seconds) == (2, None)


def test_a_starting_model_that_is_good_enough_costs_nothing(run: Run) -> None:
    write_evaluation(run.round(0), [score(run, 0.7, seconds=None)])
    (row,) = report([run], target=0.55).attainments
    assert (row.round, row.bytes_total, row.seconds) == (0, 0, 0)


def test_the_lowest_loss_reaches_it(run: Run) -> None:
    (row,) = report([run], metric="loss", target=0.5).attainments
    assert (row.round, row.value, row.best) == (2, pytest.approx(0.45), pytest.approx(0.4))


def test_every_view_says_who_does_not_reach_it(run: Run, tmp_path: Path, cli: Cli) -> None:
    low = make_run(tmp_path / "low", accuracies=(0.2, 0.3), plan=Plan(TrainPlan(lr=0.2)))
    without = make_run(tmp_path / "without", accuracies=(0.2,), plan=Plan(TrainPlan(lr=0.3)))
    without.round(1).evaluation.unlink()
    found = report([run, low, without], target=0.55)
    for text in (terminal_text(found), to_markdown(found), to_html(found)):
        assert "To reach accuracy (%): at least 55.0" in text
        assert "not reached" in text
        assert "not evaluated" in text
    status, out, err = cli("report", run.root, low.root, "--target", 0.55, "--json")
    assert status == 0, err
    reached, missed = json.loads(out)["attainments"]
    assert (reached["round"], missed["round"], missed["best"]) == (2, None, 0.3)
    assert json.loads(out)["target"] == 0.55


def test_repetitions_of_a_method_are_one_row(tmp_path: Path) -> None:
    """Three seeds, of which two reach it, beside one that does not."""
    curves = {"a": (0.4, 0.6, 0.6), "b": (0.3, 0.4, 0.7), "c": (0.3, 0.3, 0.35)}
    plan = Plan(TrainPlan.of(lr=0.3))
    runs = [
        make_run(tmp_path / name, seed=i, plan=plan, accuracies=own)
        for i, (name, own) in enumerate(curves.items())
    ]
    other = make_run(tmp_path / "other", plan=Plan(TrainPlan.of(lr=0.1)), accuracies=(0.1, 0.2))
    found = report([*runs, other], target=0.5)
    assert [row.round for row in found.attainments] == [2, 3, None, None]
    for text in (terminal_text(found), to_markdown(found)):
        rows = [line for line in text.splitlines() if "2 of 3" in line or "0 of 1" in line]
        assert len(rows) == 2, text
        assert "2.5 ± 0.7" in rows[0]
        assert "55.0 ± 18.0" in rows[0]
        assert "20.0" in rows[1]
        assert "not reached" in rows[1]


def test_without_a_target_there_is_no_table(run: Run) -> None:
    assert "To reach" not in terminal_text(report([run]))


@pytest.mark.parametrize(
    ("metric", "target", "words", "hint"),
    [
        ("accuracy", 80, "--target: expected 0 to 1, found 80", "for 80 %: --target 0.8"),
        ("accuracy", -0.1, "--target: expected 0 to 1, found -0.1", None),
        ("auc", float("nan"), "--target: expected 0 to 1, found nan", None),
        ("loss", -1, "--target: expected 0 or more, found -1", None),
        ("loss", float("inf"), "--target: expected 0 or more, found inf", None),
    ],
)
def test_a_target_that_no_score_reaches_is_refused(
    run: Run, metric: str, target: float, words: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as fault:
        report([run], metric=metric, target=target)
    assert (fault.value.message, fault.value.hint) == (words, hint)
