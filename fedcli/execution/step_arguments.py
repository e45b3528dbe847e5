"""Options that ``run`` passes on to the steps it launches, as command lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcli.options import declared
from fedcli.plan.execution import Machine
from fedcli.plan.sections import option_words


@dataclass(frozen=True)
class StepOptions:
    """Options that ``run_rounds`` passes on to steps; None leaves it to the plan or the machine.

    ``training`` holds options by their names in ``TrainPlan``, ``aggregation`` by their names in
    ``AggregatePlan``, ``execution`` by their names in ``Execution``. Clients in ``exclude`` neither
    train nor count. With ``min_clients``, a round continues once that many have delivered, even if
    others failed. ``clients_per_process`` clients are trained one after another in a process, and
    ``fan_out`` updates or partial means are added up at a time, None: all at once.
    Private training draws from the key in ``noise_key``, and the noise on sums of updates comes
    from that in ``central_noise_key``.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    aggregation: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    min_clients: int | None = None
    exclude: Sequence[str] = ()
    seed: int | None = None
    own_model: str | None = None
    noise_key: Path | None = None
    central_noise_key: Path | None = None
    clients_per_process: int | None = None
    fan_out: int | None = None

    @property
    def device(self) -> str:
        """The device that was asked for."""
        return str(self.execution.get("device") or "auto")

    @property
    def threads(self) -> int | None:
        """The threads of each process that were asked for."""
        return self.execution.get("threads")

    def for_training(self, number: int) -> list[str]:
        """Return the arguments of ``train-client`` in a round, except the client."""
        state = self.execution.get("state")
        machine = {**self.execution, "state": None if state is None else state.absolute()}
        given = {**self.training, "seed": self.seed, **machine, "model": self.own_model}
        return option_words({"round": number, **given, "noise_key": self.noise_key})

    def for_aggregation(self, number: int) -> list[str]:
        """Return the arguments of ``aggregate`` in a round."""
        who = {"min_clients": self.min_clients, "exclude": tuple(self.exclude) or None}
        key = {"noise_key": self.central_noise_key}
        return option_words({"round": number, **self.aggregation, **who, **key})

    def for_partial(self, number: int) -> list[str]:
        """Return the arguments of ``aggregate --partial`` in a round, except who is in it."""
        given = {name: self.aggregation.get(name) for name in ("strategy", "weighting")}
        return option_words({"round": number, **given})

    def for_evaluation(self, number: int) -> list[str]:
        """Return the arguments of ``evaluate`` in a round."""
        machine = {name: self.execution.get(name) for name in declared(Machine)}
        return option_words({"round": number, **machine, "model": self.own_model})
