"""Steps on the workers of a Dask scheduler."""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from fedcli.errors import (
    FedcliError,
    MissingDependencyError,
    NotReadyError,
    StepLostError,
    UsageError,
)
from fedcli.execution.engines.executor import PATIENCE, ExecutorEngine
from fedcli.execution.place import Place
from fedcli.execution.worker import Setting, check_greeting, greet
from fedcli.options import one_of

# Of a client's arguments, those that are numbers or texts; it ignores unknown ones.
_OPTIONS = ("connection_limit", "direct_to_workers", "heartbeat_interval", "name", "timeout")
_CLOSING = 5.0  # seconds for the scheduler to hear that this client leaves


class DaskEngine(ExecutorEngine):
    """Steps as tasks of a Dask client.

    The scheduler keeps them in a queue, and gives those of a worker that died to another one.
    """

    def __init__(self, address: str, place: Place, setting: Setting) -> None:
        """Raise ``UsageError`` for resources that Dask's workers do not have."""
        super().__init__("dask", self._client_executor, setting)
        place.limits.check_known(("gpu", "mem", "cpus"), "dask", "leave it out")
        self._address, self._options = address, place.engine_options
        self._patience = _seconds(self._options.get("timeout", PATIENCE))
        self._needs = place.limits.given
        self._client: Any = None

    def connect(self) -> None:
        """See ``Engine``; every worker answers."""
        if self._executor is not None:
            return
        self._client = _client(self._address, self._options)
        workers = self._workers()
        answers = self._client.run(greet, str(self._setting.run), on_error="return")
        for name, answer in answers.items():
            check_greeting(name, answer, self._setting.run)
        self._resources = _named(self._needs, workers)
        self._executor = self._make()

    def _workers(self) -> Mapping[str, Any]:
        try:
            self._client.wait_for_workers(1, timeout=self._patience)
        except TimeoutError:
            raise NotReadyError(
                f"--executor dask:{self._address}: no worker within {self._patience:g} s",
                hint=f"start workers: dask worker {_where(self._address)}",
            ) from None
        found: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def _client_executor(self) -> Executor:
        executor: Executor = self._client.get_executor(pure=False, resources=self._resources)
        return executor

    def _accepted(self, request: dict[str, Any]) -> Future[Any]:
        """See ``ExecutorEngine``."""
        self._check_open()
        inner = super()._accepted(request)
        self._check_open()  # a client that is closing accepts a step, and never ends it
        return inner

    def _cancelled(self) -> FedcliError:
        """See ``ExecutorEngine``; a client that loses the scheduler cancels all steps.

        It then tries to reach it for a while, and keeps steps that it is given meanwhile.
        """
        if self._client.status == "connecting":
            return StepLostError(f"the scheduler of dask:{self._address} does not answer")
        try:
            self._check_open()
        except NotReadyError as error:
            return error
        return super()._cancelled()

    def _check_open(self) -> None:
        if self._client.status in ("closing", "closed"):
            raise NotReadyError(
                f"--executor dask:{self._address}: the scheduler has gone: it has not answered"
                f" for {self._patience:g} s",
                hint="start it and its workers; the same command continues",
            )

    def stop(self) -> None:
        """See ``Engine``; running steps end on their workers, and count."""
        super().stop()
        if self._client is not None:
            self._client.close(timeout=_CLOSING)


def _client(address: str, options: Mapping[str, Any]) -> Any:
    """Connect to a scheduler. Raises ``NotReadyError``, ``UsageError`` for unknown options."""
    where = {"scheduler_file": address} if _is_file(address) else {"address": address}
    if _is_file(address) and not Path(address).exists():
        raise NotReadyError(
            f"--executor dask:{address}: there is no such file",
            hint=f"start a scheduler: dask scheduler --scheduler-file {address}",
        )
    distributed = _distributed()
    settings = {"timeout": PATIENCE, "set_as_default": False, "name": "fedcli", **options}
    for name in options:
        one_of("--executor-option", name, _OPTIONS)
    try:
        return distributed.Client(**where, **settings)
    except (OSError, TimeoutError) as error:
        raise NotReadyError(
            f"--executor dask:{address}: no scheduler answers: {error}",
            hint="start one: dask scheduler --host ADDRESS --scheduler-file FILE.json",
        ) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"--executor dask:{address}: {error}") from None


def _distributed() -> Any:
    try:
        import dask
    except ImportError:
        raise MissingDependencyError(
            "--executor dask needs the package distributed", hint="pip install 'fedcli[dask]'"
        ) from None
    # What it logs is said in an error of fedcli, in one line.
    loggers = ("distributed", "distributed.client", "tornado", "tornado.application")
    dask.config.set({"logging": dict.fromkeys(loggers, "critical")})
    import distributed

    return distributed


def _seconds(value: Any) -> float:
    """Return how long to wait. Raises ``UsageError``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(
            f"--executor-option timeout: expected a positive number of seconds, found {value}"
        )
    return float(value)


def _is_file(address: str) -> bool:
    return address.endswith(".json")


def _where(address: str) -> str:
    return f"--scheduler-file {address}" if _is_file(address) else address


def _named(needs: Mapping[str, int], workers: Mapping[str, Any]) -> dict[str, int]:
    """Return resources by the names that workers declare. Raises ``NotReadyError``."""
    found = {}
    for name, amount in needs.items():
        offers = [
            declared
            for worker in workers.values()
            for declared, most in worker["resources"].items()
            if declared.casefold() == name and most >= amount
        ]
        if not offers:
            raise NotReadyError(
                f"--resources {name}: no worker offers {amount}",
                hint=f"start workers that do: dask worker … --resources {name}={amount}",
            )
        found[offers[0]] = amount
    return found
