"""The sections of an experiment's file: which keys each has.

A key is the option without dashes, with underscores: ``--batch-size`` is ``batch_size``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcli.options import Declared, declared, option
from fedcli.plan.execution import Execution
from fedcli.plan.stopping import Stopping


@dataclass(frozen=True)
class RunSection:
    """How many rounds a run has, and with whom."""

    rounds: int = option(10, "Continue until round N is complete.", "N", at_least=1)
    seed: int = option(0, "The seed of the run.", "N", at_least=0)
    jobs: int | None = option(
        None, "Clients at a time.", "N", at_least=1, unset="as many as suit the machine"
    )
    evaluate: bool = option(True, "Score every round's global model.")
    keep_updates: int | None = option(
        None,
        "After each round, remove updates and states of rounds before the last N.",
        "N",
        at_least=1,
        unset="all are kept",
    )
    min_clients: int | None = option(
        None, "Continue with this many updates.", "N", at_least=1, unset="every client's is needed"
    )
    exclude: tuple[str, ...] = option(
        (), "Leave clients out: an id, a list (0,3) or a range (0-9).", "ID", unset="nobody"
    )


def _keyed(options: Mapping[str, Declared]) -> dict[str, Declared]:
    return {one.words.removeprefix("--").replace("-", "_"): one for one in options.values()}


def _data() -> Mapping[str, Declared]:
    from fedcli.setup.data_source import data_options

    return _keyed(data_options())


def _partition() -> Mapping[str, Declared]:
    from fedcli.partitioning.schemes import scheme_options

    return _keyed(scheme_options())


def _model() -> Mapping[str, Declared]:
    from fedcli.run.info import ModelInfo
    from fedcli.setup.new_run import Start

    return _keyed({**declared(ModelInfo), **declared(Start)})


def _train() -> Mapping[str, Declared]:
    from fedcli.plan.train import TRAIN_OPTIONS

    return _keyed(TRAIN_OPTIONS)


def _aggregate() -> Mapping[str, Declared]:
    from fedcli.plan.rule import aggregate_options

    return _keyed(aggregate_options())


def _run() -> Mapping[str, Declared]:
    execution = {k: v for k, v in declared(Execution).items() if k not in ("stream", "num_workers")}
    return _keyed({**declared(RunSection), **execution, **declared(Stopping)})


SECTIONS: dict[str, Callable[[], Mapping[str, Declared]]] = {
    "data": _data,
    "model": _model,
    "partition": _partition,
    "train": _train,
    "aggregate": _aggregate,
    "run": _run,
}
