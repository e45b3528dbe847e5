"""``run --stop-after`` and ``--target``: decided by the scores of the rounds alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grey_runs import grey_run
from support.runs import fedcli

from fedcli.cli import execute
from fedcli.errors import BadInputError, UsageError
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.plan.stopping import Stopping
from fedcli.reporting.metric import METRICS
from fedcli.run import Run
from fedcli.steps.evaluate import evaluate
from fedcli.steps.stopping import EarlyStopping, first_stop

ACCURACY, LOSS = METRICS["accuracy"], METRICS["loss"]


def stop_of(values: Sequence[float], stopping: Stopping) -> tuple[int, str] | None:
    metric = METRICS[stopping.metric or "accuracy"]
    found = first_stop(dict(enumerate(values)), stopping, metric)
    return None if found is None else (found.round, found.reason)


def test_rounds_without_improvement_are_counted_from_the_best_one() -> None:
    values = [0.1, 0.5, 0.4, 0.5, 0.6, 0.6, 0.55, 0.59]
    assert stop_of(values, Stopping(stop_after=3)) == (
        7,
        "no better accuracy for 3 rounds than the 0.6000 of round 4",
    )
    assert stop_of(values, Stopping(stop_after=2)) == (
        3,
        "no better accuracy for 2 rounds than the 0.5000 of round 1",
    )
    assert stop_of(values, Stopping(stop_after=4)) is None


def test_the_first_round_that_reaches_the_target_is_the_last() -> None:
    values = [0.1, 0.5, 0.8, 0.9]
    reached = "the accuracy 0.8000 of round 2 reaches the target 0.8"
    assert stop_of(values, Stopping(target=0.8)) == (2, reached)
    assert stop_of(values, Stopping(target=0.95)) is None
    start = "the accuracy 0.1000 of round 0 reaches the target 0.05"
    assert stop_of(values, Stopping(target=0.05)) == (0, start)


def test_of_a_loss_the_lowest_is_best() -> None:
    values = [2.3, 1.5, 1.6, 1.0, 1.2]
    assert stop_of(values, Stopping(target=1.5, metric="loss")) == (
        1,
        "the loss 1.5000 of round 1 reaches the target 1.5",
    )
    assert stop_of(values, Stopping(stop_after=1, metric="loss")) == (
        2,
        "no better loss for 1 round than the 1.5000 of round 1",
    )


@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=12),
    stop_after=st.none() | st.integers(1, 4),
    target=st.none() | st.sampled_from([0.25, 0.5, 1.0]),
)
def test_a_run_resumed_after_any_round_ends_where_one_in_a_piece_does(
    values: list[float], stop_after: int | None, target: float | None
) -> None:
    stopping = Stopping(stop_after=stop_after, target=target)
    whole = stop_of(values, stopping)
    for known in range(len(values) + 1):
        found = stop_of(values[:known], stopping)
        assert found == (whole if whole is not None and whole[0] < known else None)


def scored(run: Run, number: int, **figures: Any) -> None:
    """Make a round look complete, and scored."""
    round_ = run.round(number)
    round_.path.mkdir(exist_ok=True)
    if number:
        round_.global_model.write_bytes(run.round(0).global_model.read_bytes())
    facts: Mapping[str, Any] = {"accuracy": 0.5, **figures}
    Evaluation((Score("global", "test", 10, **facts),), number).write(round_.evaluation)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return grey_run(tmp_path / "fedrun")


def test_it_reads_the_files_of_the_rounds_and_no_later_ones(run: Run) -> None:
    for number, accuracy in enumerate([0.3, 0.6, 0.5, 0.4]):
        scored(run, number, accuracy=accuracy)
    stopping = Stopping(stop_after=2)
    found = EarlyStopping(run, stopping, evaluate=True).decide(3)
    assert found is not None
    assert found.round == 3
    assert EarlyStopping(run, stopping, evaluate=True).decide(2) is None
    assert EarlyStopping(run, Stopping(), evaluate=True).decide(3) is None


def test_a_score_of_a_replaced_model_counts_as_none(run: Run) -> None:
    scored(run, 0)
    early = EarlyStopping(run, Stopping(stop_after=1), evaluate=True)
    assert early.unscored(5) == []
    Evaluation((Score("global", "my.npz", 10, 0.5),), 0).write(run.round(0).evaluation)
    assert early.unscored(5) == [0]


def test_scores_that_lack_the_metric_are_completed_once(run: Run) -> None:
    scored(run, 0)
    assert EarlyStopping(run, Stopping(target=0.9, metric="auc"), evaluate=True).unscored(5) == [0]
    assert evaluate(run, rounds=0, threads=1).computed == 1
    assert EarlyStopping(run, Stopping(target=0.9, metric="auc"), evaluate=True).unscored(5) == []


def test_a_broken_file_is_named_with_what_to_do(run: Run) -> None:
    scored(run, 0)
    scored(run, 1)
    for number in (0, 1):
        run.round(number).evaluation.write_text("{")
    with pytest.raises(BadInputError) as caught:
        EarlyStopping(run, Stopping(target=0.5), evaluate=True).unscored(5)
    assert "0000/evaluation.json" in str(caught.value)
    assert "0001/evaluation.json" in str(caught.value)
    assert caught.value.hint is not None


def test_a_metric_that_a_score_does_not_have_is_refused(run: Run) -> None:
    scored(run, 0)
    with pytest.raises(UsageError, match=r"--metric auc: .* round 0"):
        EarlyStopping(run, Stopping(target=0.5, metric="auc"), evaluate=True).decide(3)


@pytest.mark.parametrize(
    ("stopping", "evaluate", "said"),
    [
        (Stopping(stop_after=2), False, "--stop-after: needs the scores of every round"),
        (Stopping(target=0.5), False, "--target: needs the scores of every round"),
        (Stopping(metric="loss"), True, "--metric: goes with --stop-after or --target"),
        (Stopping(target=-0.1), True, "--target: expected 0 to 1, found -0.1"),
        (Stopping(target=80), True, "--target: expected 0 to 1, found 80"),
        (Stopping(target=0.5, metric="acuracy"), True, "found 'acuracy'"),
        (Stopping(target=0.5, metric="sensitivity"), True, "this run has 3"),
    ],
)
def test_options_that_cannot_be_followed(
    run: Run, stopping: Stopping, evaluate: bool, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        EarlyStopping(run, stopping, evaluate=evaluate)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "80 %"])
def test_targets_that_are_no_numbers(run: Run, value: str) -> None:
    words = ["run", "--run", str(run.root), "--rounds", "2", "--metric", "loss"]
    assert execute([*words, "--target", value]) == 2


def test_a_run_without_a_test_set_is_refused(run: Run) -> None:
    run.test_shard.unlink()
    with pytest.raises(UsageError, match="holds no test set"):
        EarlyStopping(run, Stopping(stop_after=2), evaluate=True)


def test_a_run_ends_early_and_says_so_again_when_it_is_repeated(run: Run, tmp_path: Path) -> None:
    """Also one that was stopped in between, and one whose rounds were not scored at first."""
    words = ("run", "--rounds", 9, "--lr", 1e-12, "--stop-after", 2, "--threads", 1)
    assert fedcli(*words[:2], 1, *words[3:5], "--no-evaluate", cwd=tmp_path).status == 0
    done = fedcli(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    stop = json.loads(fedcli(*words, "--json", cwd=tmp_path).out)["stopped"]
    assert f"stopped early: {stop['reason']}" in done.out
    assert stop["round"] == run.latest_round().number < 9
    assert "no better accuracy for 2 rounds than the" in stop["reason"]
    again = fedcli(*words, cwd=tmp_path)
    assert again.status == 0
    assert f"stopped early already: {stop['reason']}" in again.out
    run.latest_round().evaluation.unlink()  # as if it had been killed before the last evaluation
    again = fedcli(*words, cwd=tmp_path)
    assert f"stopped early already: {stop['reason']}" in again.out
    assert run.latest_round().number == stop["round"]
    assert run.latest_round().evaluation.exists()
    other = fedcli(*words[:3], "--lr", 0.5, *words[5:], cwd=tmp_path)
    assert other.status == 5
    assert "--lr" in other.err
