"""A run with everything that a tracker is given, and what it is to be given."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.sample_runs import make_run

from fedcli.reporting.run_report import RunReport
from fedcli.run import Run
from fedcli.steps.report import report

Curves = dict[str, dict[int, float]]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of one database: MLflow takes seconds to make one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the logs of wandb out of the home directory."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path_factory.mktemp("wandb")))


@pytest.fixture
def run(tmp_path: Path, unsynced: None) -> Run:
    return make_run(tmp_path / "fedrun", accuracies=(0.4, 1 / 3, 0.5))


@pytest.fixture
def curves() -> Callable[[Run], Curves]:
    """The values of a run by name and round, as its report has them."""

    def read(run: Run) -> Curves:
        (found,) = report([run]).runs
        return {**_of_rounds(found), **_of_clients(found), **_of_classes(found)}

    return read


def _of_rounds(found: RunReport) -> Curves:
    rounds = found.rounds
    trained = rounds[1:]
    return {
        **{
            f"test/{name}": {one.number: getattr(one.scores[0], name) for one in trained}
            for name in ("accuracy", "loss", "balanced_accuracy", "macro_f1")
        },
        **{
            f"round/{name}": {one.number: getattr(one, name) for one in rounds}
            for name in ("bytes_up", "bytes_down", "bytes_total")
        },
        **{
            f"round/{name}": {one.number: getattr(one, name) for one in trained}
            for name in ("training_seconds_max", "aggregation_seconds", "evaluation_seconds")
        },
    }


def _of_clients(found: RunReport) -> Curves:
    names = {"weight": "weight", "local_loss": "local_loss", "update_norm": "norm"}
    return {
        f"update/{name}/{who}": {
            one.number: getattr(client, field)
            for one in found.rounds
            for client in one.clients
            if client.client == who
        }
        for name, field in names.items()
        for who in ("0", "1", "2")
    }


def _of_classes(found: RunReport) -> Curves:
    return {
        f"test by class/f1/{name}": {
            one.number: one.scores[0].per_class[place].f1 for one in found.rounds[1:]
        }
        for place, name in enumerate(found.classes)
    }
