"""MLflow: each run is a run of one experiment, in a database or at a server.

The time of a value is when its round ended, as if the run had ended when it was written here.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from fedcli.errors import FedcliError, StorageError, UsageError
from fedcli.text import printable
from fedcli.trackers.history import History
from fedcli.trackers.tracker import require

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run
    from mlflow.tracking import MlflowClient

Item = TypeVar("Item")
EXPERIMENT = "fedcli"  # unless MLFLOW_EXPERIMENT_NAME says otherwise
KEY, CONTENT = "fedcli.key", "fedcli.content"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # of one call
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # what is run in a hospital is nobody else's business
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default waits for minutes where nobody answers
}


class MLflow:
    """An MLflow tracking store, named by its URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client: MlflowClient | None = None
        self._experiment = ""

    def open(self) -> None:
        """Connect, and make the experiment if there is none.

        Raises ``UsageError`` without a URI, ``MissingDependencyError``, and ``StorageError`` for
        whatever MLflow says.
        """
        if not self.uri:
            raise UsageError("--mlflow: expected a URI, such as sqlite:///mlflow.db, found none")
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        databases = self.uri.startswith(_DATABASES)
        require("--mlflow", "mlflow", "mlflow", *(("sqlalchemy", "alembic") if databases else ()))
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # a new database is worth a dozen lines to them
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._errors():
            self._client = MlflowClient(tracking_uri=self.uri)
            self._experiment = self._find_experiment()

    def place(self, history: History) -> str:
        """Return the store, without a password, and the name of the run."""
        return f"{without_password(self.uri)}: {history.name}"

    def has(self, history: History) -> bool:
        """Return whether there is one run with this content."""
        return [run.data.tags.get(CONTENT) for run in self._runs(history)] == [history.content]

    def put(self, history: History) -> bool:
        """Write a run, and then delete earlier ones with its key, as MLflow deletes runs."""
        earlier = self._runs(history)
        with self._errors():
            self._write(history)
            for run in earlier:
                self.client.delete_run(run.info.run_id)
        return bool(earlier)

    def close(self) -> None:
        """Forget the client: it holds nothing open."""
        self._client = None

    @property
    def client(self) -> "MlflowClient":
        """The open client."""
        if self._client is None:
            raise RuntimeError("open the tracker first")
        return self._client

    def _find_experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name))

    def _runs(self, history: History) -> list["Run"]:
        with self._errors():
            found = self.client.search_runs([self._experiment], f"tags.`{KEY}` = '{history.key}'")
            return list(found)

    def _write(self, history: History) -> None:
        taken = history.rounds[-1].seconds if history.rounds else 0.0
        start = int(1000 * (time.time() - taken))
        tags = {KEY: history.key, "fedcli.run": history.run}
        run = self.client.create_run(
            self._experiment, start_time=start, tags=tags, run_name=history.name
        ).info.run_id
        for parameters in _pieces(_parameters(history), _MOST_PARAMETERS):
            self.client.log_batch(run, params=parameters)
        for metrics in _pieces(_metrics(history, start), _MOST_METRICS):
            self.client.log_batch(run, metrics=metrics)
        self.client.set_tag(run, CONTENT, history.content)  # last: now it is complete
        self.client.set_terminated(run)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in one line what MLflow, or the database or network behind it, complains about."""
        try:
            yield
        except FedcliError:
            raise
        except Exception as error:
            where = without_password(self.uri)
            reason = without_password(str(error)).strip() or type(error).__name__
            raise StorageError(
                f"--mlflow {where}: {printable(reason.splitlines()[0], 300)}",
                hint="a file: --mlflow sqlite:///mlflow.db; a server: --mlflow http://HOST:5000",
            ) from error


def without_password(text: str) -> str:
    """Return text without the user and the password of the URIs in it."""
    return re.sub(r"(?<=//)[^/@\s]*@", "", text)


def _parameters(history: History) -> list["Param"]:
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in history.settings.items()]


def _metrics(history: History, start: int) -> list["Metric"]:
    """Return the values; ``start`` is in milliseconds since 1970, as MLflow counts."""
    from mlflow.entities import Metric

    return [
        Metric(name, value, start + int(1000 * one.seconds), one.number)
        for one in history.rounds
        for name, value in one.values.items()
    ]


def _pieces(items: Sequence[Item], length: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + length] for start in range(0, len(items), length))
