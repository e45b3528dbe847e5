"""MLflow reads back what the run measured, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sample_runs import score, write_evaluation

from fedcli.errors import StorageError, UsageError
from fedcli.run import Run
from fedcli.steps.report import report
from fedcli.trackers.mlflow import without_password

tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
# MLflow defines its tables by what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
Curves = dict[str, dict[int, float]]
Runs = Callable[[], list[Any]]


@pytest.fixture
def uri(database: str, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    """A store in which this test has an experiment of its own."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    return database


@pytest.fixture
def runs(uri: str, request: Any) -> Runs:
    def search() -> list[Any]:
        client = tracking.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(request.node.name)
        return [*client.search_runs([experiment.experiment_id])]

    return search


def test_values_and_settings_are_those_of_the_run(
    run: Run, uri: str, runs: Runs, curves: Callable[[Run], Curves]
) -> None:
    report([run], labels=["mine"], mlflow=uri)
    (found,) = runs()
    client = tracking.MlflowClient(tracking_uri=uri)
    for name, expected in curves(run).items():
        history = client.get_metric_history(found.info.run_id, name)
        assert {one.step: one.value for one in history} == expected, name
        assert len(history) == len(expected)
    made = {"algorithm": "fedavg", "alpha": "0.5", "seed": "0", "fedcli_run": run.id}
    assert made.items() <= found.data.params.items()
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")


def test_times_are_those_of_the_run(run: Run, uri: str, runs: Runs) -> None:
    report([run], mlflow=uri)
    (found,) = runs()
    client = tracking.MlflowClient(tracking_uri=uri)
    history = client.get_metric_history(found.info.run_id, "test/accuracy")
    assert [one.timestamp - found.info.start_time for one in history] == [3750, 8500, 14250]


def test_a_repetition_changes_nothing(run: Run, uri: str, runs: Runs) -> None:
    report([run], mlflow=uri)
    before = [(one.info.run_id, one.info.end_time) for one in runs()]
    report([run], mlflow=uri)
    assert [(one.info.run_id, one.info.end_time) for one in runs()] == before


def test_a_run_that_went_on_is_replaced(run: Run, uri: str, runs: Runs) -> None:
    report([run], labels=["one"], mlflow=uri)
    report([run], labels=["other"], mlflow=uri)
    write_evaluation(run.round(3), [score(run, 0.75)])
    report([run], labels=["one"], mlflow=uri)
    found = [(one.info.run_name, one.data.metrics["test/accuracy"]) for one in runs()]
    assert sorted(found) == [("one", 0.75), ("other", 0.5)]


def test_a_run_that_was_not_written_to_the_end_is_replaced(
    run: Run, uri: str, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.MlflowClient, "set_tag", full)
        with pytest.raises(StorageError, match="disk is full"):
            report([run], mlflow=uri)
    assert [one.info.status for one in runs()] == ["RUNNING"]
    report([run], mlflow=uri)
    assert [one.info.status for one in runs()] == ["FINISHED"]


@pytest.mark.parametrize(
    "refused", ["mlruns", "nothing://known", "http://someone:secret@127.0.0.1:9"]
)
def test_what_mlflow_refuses_is_one_line_without_a_password(
    run: Run, tmp_path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError) as caught:
        report([run], mlflow=refused)
    assert caught.value.message.startswith(f"--mlflow {without_password(refused)}: ")
    assert "secret" not in caught.value.message
    assert "sqlite:///mlflow.db" in str(caught.value.hint)


def test_an_empty_uri_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="--mlflow: expected a URI"):
        report([run], mlflow="")
