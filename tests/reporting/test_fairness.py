"""How evenly a global model serves the clients."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.grey_runs import Cli
from support.reports import terminal_text
from support.sample_runs import make_run, score, write_evaluation

from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.page import to_html
from fedcli.run import Run
from fedcli.steps.report import report

CLIENTS = tuple(map(str, range(25)))
ACCURACIES = [round(0.9 - 0.02 * index, 2) for index in range(25)]


def write_scores(run: Run, number: int, data: str, accuracies: list[float]) -> None:
    """Scores of the global model on the test set and on the clients' own data."""
    own = [
        score(run, accuracy, data=data, data_client=client)
        for client, accuracy in zip(run.info.clients, accuracies, strict=True)
    ]
    write_evaluation(run.round(number), [score(run, 0.7), *own])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = make_run(tmp_path / "r", clients=CLIENTS, accuracies=(0.4, 0.5))
    write_scores(made, 2, "client-test", ACCURACIES)
    return made


def test_it_is_the_worst_clients_and_the_spread_of_all(run: Run) -> None:
    (row,) = report([run]).fairness
    assert (row.data, row.round, row.clients, row.without) == ("client-test", 2, 25, 0)
    assert row.mean == pytest.approx(np.mean(ACCURACIES))
    assert row.std == pytest.approx(np.std(ACCURACIES))
    # a tenth of 25 clients is 3
    assert row.worst_tenth == pytest.approx(np.mean([0.42, 0.44, 0.46]))
    assert (row.worst, row.worst_client) == (0.42, "24")


def test_the_highest_loss_is_the_worst(run: Run) -> None:
    (row,) = report([run], metric="loss").fairness
    assert (row.worst, row.worst_client) == (pytest.approx(1 - 0.42), "24")
    assert row.worst_tenth == pytest.approx(1 - np.mean([0.42, 0.44, 0.46]))


def test_validation_data_stand_in_for_test_data_and_the_latest_round_counts(run: Run) -> None:
    write_scores(run, 1, "validation", ACCURACIES)
    write_scores(run, 2, "validation", ACCURACIES[::-1])
    (row,) = report([run]).fairness
    assert (row.data, row.round, row.worst_client) == ("validation", 2, "0")
    # one round is compared, even if an earlier one has more clients
    write_evaluation(run.round(2), [score(run, 0.3, data="validation", data_client="7")])
    (row,) = report([run]).fairness
    assert (row.clients, row.worst_client, row.std) == (1, "7", 0)


def test_a_client_that_lacks_the_metric_is_counted_apart(run: Run) -> None:
    own = [
        score(run, 0.5, data="client-test", data_client=client, auc=auc)
        for client, auc in zip("012", (0.6, None, 0.8), strict=True)
    ]
    write_evaluation(run.round(2), own)
    (row,) = report([run], metric="auc").fairness
    assert (row.clients, row.without, row.mean) == (2, 1, pytest.approx(0.7))
    assert report([run], metric="sensitivity").fairness == ()


def test_every_view_shows_it(run: Run, cli: Cli) -> None:
    found = report([run])
    for text in (terminal_text(found), to_markdown(found), to_html(found)):
        assert "Fairness: accuracy (%) of the global model over clients" in text
        assert "42.0 (24)" in text
        assert "44.0" in text
    status, out, err = cli("report", run.root, "--json")
    assert status == 0, err
    (row,) = json.loads(out)["fairness"]
    assert row["worst_client"] == "24"


def test_a_loss_that_overflows_is_not_known(run: Run) -> None:
    own = [score(run, 0.5, data="client-test", data_client=c, loss=1e308) for c in "01234"]
    write_evaluation(run.round(2), own)
    (row,) = report([run], metric="loss").fairness
    assert (row.mean, row.worst) == (None, 1e308)
    assert "Fairness: loss" in terminal_text(report([run], metric="loss"))


def test_repetitions_of_a_method_are_one_row(tmp_path: Path) -> None:
    runs = []
    for seed, worst in enumerate((0.2, 0.4)):
        made = make_run(tmp_path / str(seed), seed=seed, accuracies=(0.5,))
        write_scores(made, 1, "client-test", [0.8, 0.6, worst])
        runs.append(made)
    found = report(runs)
    assert [row.worst for row in found.fairness] == [0.2, 0.4]
    text = terminal_text(found)
    assert "30.0 ± 14.1" in text.split("Fairness", 1)[1]
    # the means are 53.3 and 60
    assert "56.7 ± 4.7" in text.split("Fairness", 1)[1]


def test_a_loss_of_two_runs_that_overflows_is_not_known(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seed=seed, accuracies=(0.5,)) for seed in (0, 1)]
    for made in runs:
        write_evaluation(made.round(1), [score(made, 0.5, loss=1.7e308)])
    found = report(runs, metric="loss", target=0.5)
    assert found.methods[0].final.get("loss") is None
    assert "0 of 2" in terminal_text(found)


def test_runs_that_were_not_scored_on_clients_have_none(tmp_path: Path) -> None:
    found = report([make_run(tmp_path / "r")])
    assert found.fairness == ()
    assert "Fairness" not in terminal_text(found)
