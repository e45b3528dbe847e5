"""The sections of an experiment's file: which keys each has.

A key is the option without dashes, with underscores: ``--batch-size`` is ``batch_size``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedcli.execution.place import Place
from fedcli.options import Declared, Given, check, declared, option
from fedcli.plan.execution import Execution
from fedcli.plan.stopping import Stopping


@dataclass(frozen=True)
class RunSeed:
    """The seed that a run is made with."""

    seed: int = option(0, "The seed of the run.", "N", at_least=0)


@dataclass(frozen=True)
class TakingPart:
    """Which updates a round needs, and which it leaves out."""

    min_clients: int | None = option(
        None, "Continue with this many updates.", "N", at_least=1, unset="every client's is needed"
    )
    exclude: tuple[str, ...] = option(
        (),
        "Leave clients out: an id, a list (0,3) or a range (0-9); can be repeated.",
        "ID",
        unset="nobody",
        repeat=True,
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        check(self)


@dataclass(frozen=True)
class Running:
    """How many rounds a run has, and how they are run; ``jobs`` None suits the machine."""

    rounds: int | None = option(
        None,
        "Continue until round N is complete.",
        "N",
        at_least=1,
        unset="must be given, here or in a plan file",
        aliases=("--num-rounds",),
    )
    jobs: int | None = option(
        None,
        "Clients at a time; `auto` suits the cores, or the GPU's memory.",
        "N|auto",
        at_least=1,
        unset="`auto`",
        short="-j",
        auto=True,
    )
    clients_per_process: int | None = option(
        None,
        "Clients that one process trains; `auto`: more than one of hundreds of small ones.",
        "N|auto",
        at_least=1,
        unset="`auto`",
        auto=True,
    )
    fan_out: int | None = option(
        None,
        "Add updates up in a tree of partial means, N at a time.",
        "N",
        at_least=2,
        unset="all at once",
    )
    evaluate: bool = option(True, "Score every round's global model.")
    keep_updates: int | None = option(
        None,
        "After each round, remove updates and states of rounds before the last N, as gc does.",
        "N",
        at_least=1,
        unset="all are kept",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        check(self)


def _keyed(options: Mapping[str, Declared]) -> dict[str, Declared]:
    return {one.words.removeprefix("--").replace("-", "_"): one for one in options.values()}


def _data() -> Mapping[str, Declared]:
    """Which data, and how much of it."""
    from fedcli.setup.data_source import data_options

    return _keyed(data_options())


def _partition() -> Mapping[str, Declared]:
    """How the data is cut into clients."""
    from fedcli.partitioning.schemes import scheme_options

    return _keyed(scheme_options())


def _model() -> Mapping[str, Declared]:
    """The network, and the weights that it starts from."""
    from fedcli.run.info import ModelInfo
    from fedcli.setup.start import Start

    return _keyed({**declared(ModelInfo), **declared(Start)})


def _train() -> Mapping[str, Declared]:
    """How each client trains."""
    from fedcli.plan.train import TRAIN_OPTIONS

    return _keyed(TRAIN_OPTIONS)


def _aggregate() -> Mapping[str, Declared]:
    """How updates are combined, and who takes part."""
    from fedcli.plan.rule import aggregate_options

    return _keyed(aggregate_options())


def _secagg() -> Mapping[str, Declared]:
    """Secure aggregation: whether and how updates are masked."""
    from fedcli.plan.secagg import SecaggOptions

    return _keyed(declared(SecaggOptions))


def _run() -> Mapping[str, Declared]:
    """The seed, and how rounds are run."""
    return _keyed(
        {
            **declared(Running),
            **declared(Place),
            **declared(RunSeed),
            **declared(TakingPart),
            **passed_on(),
            **declared(Stopping),
        }
    )


def passed_on() -> dict[str, Declared]:
    """Return the options of execution that ``run`` passes on: clients have their data there."""
    return {k: v for k, v in declared(Execution).items() if k not in ("stream", "num_workers")}


def execution_of(run: Given) -> dict[str, Any]:
    """Return the options of execution in ``[run]``; a flag that is off is not given."""
    known = passed_on()
    return {
        key: value
        for key, value in run.items()
        if key in known and not (known[key].option.flag and value is False)
    }


# What a section is for stands in its function, and from there in templates.
SECTIONS: dict[str, Callable[[], Mapping[str, Declared]]] = {
    "data": _data,
    "model": _model,
    "partition": _partition,
    "train": _train,
    "aggregate": _aggregate,
    "secagg": _secagg,
    "run": _run,
}


def by_name(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section by the names of their declarations."""
    known = SECTIONS[section]() if values else {}
    return {known[key].name: value for key, value in values.items()}
