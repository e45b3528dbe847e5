"""Federated learning as plain commands: one step, one process, one file.

Every command is a function here, with the types that it takes and returns. A name is imported when
it is first used, so that ``import fedcli`` costs nothing and what needs no torch imports none.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedcli.errors import (
        BadInputError,
        CheckpointError,
        ClientFailedError,
        ConflictError,
        DataError,
        ExitStatus,
        FedcliError,
        MissingDependencyError,
        NotReadyError,
        OutOfMemoryError,
        RunFormatError,
        StorageError,
        UpdateError,
        UsageError,
    )
    from fedcli.execution.step_arguments import StepOptions
    from fedcli.formats.checkpoint import Checkpoint
    from fedcli.models.lora import merged
    from fedcli.partitioning import Scheme
    from fedcli.plan import AggregatePlan, Plan, TrainPlan
    from fedcli.plan.execution import Execution
    from fedcli.progress import Progress
    from fedcli.reporting.model import Report
    from fedcli.run import Run
    from fedcli.run.info import ModelInfo
    from fedcli.run.sampling import sampled_clients
    from fedcli.setup.data_source import DataSource
    from fedcli.setup.new_run import Start
    from fedcli.steps.aggregate import AggregateResult, aggregate
    from fedcli.steps.evaluate import EvaluateResult, evaluate
    from fedcli.steps.export import ExportResult, export
    from fedcli.steps.gc import GcResult, gc
    from fedcli.steps.init import InitResult, init
    from fedcli.steps.inspect import Comparison, Inspected, compare, inspect
    from fedcli.steps.keygen import KeygenResult, keygen
    from fedcli.steps.partial import PartialResult, partial
    from fedcli.steps.partition import Partition, partition
    from fedcli.steps.report import report
    from fedcli.steps.run import RunResult, run_rounds
    from fedcli.steps.status import Status, status
    from fedcli.steps.train_client import TrainClientResult, train_client
    from fedcli.steps.verify import VerifyResult, verify
    from fedcli.strategies import REDUCERS, SERVER_OPTIMIZERS, STRATEGIES, WEIGHTINGS
    from fedcli.version import __version__

__all__ = [
    "REDUCERS",
    "SERVER_OPTIMIZERS",
    "STRATEGIES",
    "WEIGHTINGS",
    "AggregatePlan",
    "AggregateResult",
    "BadInputError",
    "Checkpoint",
    "CheckpointError",
    "ClientFailedError",
    "Comparison",
    "ConflictError",
    "DataError",
    "DataSource",
    "EvaluateResult",
    "Execution",
    "ExitStatus",
    "ExportResult",
    "FedcliError",
    "GcResult",
    "InitResult",
    "Inspected",
    "KeygenResult",
    "MissingDependencyError",
    "ModelInfo",
    "NotReadyError",
    "OutOfMemoryError",
    "PartialResult",
    "Partition",
    "Plan",
    "Progress",
    "Report",
    "Run",
    "RunFormatError",
    "RunResult",
    "Scheme",
    "Start",
    "Status",
    "StepOptions",
    "StorageError",
    "TrainClientResult",
    "TrainPlan",
    "UpdateError",
    "UsageError",
    "VerifyResult",
    "__version__",
    "aggregate",
    "compare",
    "evaluate",
    "export",
    "gc",
    "init",
    "inspect",
    "keygen",
    "merged",
    "partial",
    "partition",
    "report",
    "run_rounds",
    "sampled_clients",
    "status",
    "train_client",
    "verify",
]
_HOMES = {
    "REDUCERS": "strategies",
    "SERVER_OPTIMIZERS": "strategies",
    "STRATEGIES": "strategies",
    "WEIGHTINGS": "strategies",
    "AggregatePlan": "plan",
    "Checkpoint": "formats.checkpoint",
    "Comparison": "steps.inspect",
    "DataSource": "setup.data_source",
    "Execution": "plan.execution",
    "Inspected": "steps.inspect",
    "ModelInfo": "run.info",
    "Partition": "steps.partition",
    "Plan": "plan",
    "Progress": "progress",
    "Report": "reporting.model",
    "Run": "run",
    "RunResult": "steps.run",
    "Scheme": "partitioning",
    "Start": "setup.new_run",
    "Status": "steps.status",
    "StepOptions": "execution.step_arguments",
    "TrainPlan": "plan",
    "__version__": "version",
    "compare": "steps.inspect",
    "merged": "models.lora",
    "run_rounds": "steps.run",
    "sampled_clients": "run.sampling",
    "train_client": "steps.train_client",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fedcli' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fedcli.{_home_of(name)}"), name)


def _home_of(name: str) -> str:
    """Return the module of a name: errors and the steps with their results say it themselves."""
    if name in _HOMES:
        return _HOMES[name]
    if name.endswith("Error") or name == "ExitStatus":
        return "errors"
    words = name.removesuffix("Result")
    return f"steps.{''.join(f'_{c.lower()}' if c.isupper() else c for c in words).lstrip('_')}"


def __dir__() -> list[str]:
    return __all__
