"""Aggregation rules: a reducer over clients, their weighting, and a server optimizer.

A strategy names a combination of these with defaults; other sensible combinations are requested
by the names of the parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcli.strategies.decision import Measures, RuleOptions
from fedcli.strategies.reducers import REDUCERS, Reducer
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS, ServerOptimizer
from fedcli.strategies.weightings import WEIGHTINGS, Weighting

__all__ = ["REDUCERS", "SERVER_OPTIMIZERS", "STRATEGIES", "WEIGHTINGS", "Rule", "Strategy"]


@dataclass(frozen=True)
class Strategy:
    """A row of ``STRATEGIES``: the parts that a name stands for, and their defaults."""

    summary: str
    source: str
    reduce: str = "mean"
    server_optimizer: str = "sgd"
    weighting: str = "examples"
    options: Mapping[str, Any] = field(default_factory=dict)


STRATEGIES: dict[str, Strategy] = {
    "fedavg": Strategy("the mean, weighted by examples", "McMahan et al. 2017, algorithm 1"),
    "fedavgm": Strategy(
        "the mean, with server momentum", "Hsu et al. 2019", options={"server_momentum": 0.9}
    ),
    "fedadagrad": Strategy(
        "the mean, with Adagrad", "Reddi et al. 2021, algorithm 2", server_optimizer="adagrad"
    ),
    "fedadam": Strategy(
        "the mean, with Adam", "Reddi et al. 2021, algorithm 2", server_optimizer="adam"
    ),
    "fedyogi": Strategy(
        "the mean, with Yogi", "Reddi et al. 2021, algorithm 2", server_optimizer="yogi"
    ),
    "qfedavg": Strategy(
        "fairer: clients with a higher loss count more",
        "Li et al. 2020 (q-FFL), algorithm 2",
        weighting="qfedavg",
    ),
    "fednova": Strategy(
        "for clients that take unequal numbers of local steps",
        "Wang et al. 2020 (FedNova)",
        weighting="fednova",
    ),
    "scaffold": Strategy(
        "for clients that correct their steps by control variates",
        "Karimireddy et al. 2020, algorithm 1",
        server_optimizer="scaffold",
        weighting="uniform",
    ),
    "feddyn": Strategy(
        "for clients whose optima are drawn to the global one",
        "Acar et al. 2021, algorithm 1",
        server_optimizer="feddyn",
        weighting="uniform",
    ),
    "fedbuff": Strategy(
        "asynchronous: a round ends with K updates, late ones count less",
        "Nguyen et al. 2022, algorithm 1",
        weighting="staleness",
    ),
    **{
        name: Strategy(reducer.summary, reducer.source, name, weighting="uniform")
        for name, reducer in REDUCERS.items()
        if name != "mean"
    },
}


@dataclass(frozen=True)
class Rule:
    """A resolved strategy: the name and the object of every part, the value of every option."""

    strategy: str
    reduce: str
    server_optimizer: str
    weighting: str
    options: RuleOptions
    reducer: Reducer
    optimizer: ServerOptimizer
    weigher: Weighting

    @property
    def measures(self) -> Measures:
        """What must be measured before it can decide."""
        return max(self.reducer.measures, self.weigher.measures)

    def replaces(self, recorded: Mapping[str, float]) -> bool:
        """Return whether the reducer's result is the next model.

        ``recorded`` holds the values on which all clients agree, for ``optimizer.records``.
        """
        return self.optimizer.is_identity(self.options, recorded)

    @property
    def adds_up(self) -> bool:
        """Whether it is a mean that partial means add up to."""
        return self.reduce == "mean" and self.weigher.of_partials

    def slots(self) -> dict[str, float]:
        """Return what is kept from round to round for each parameter, with its start value."""
        center = {"center": 0.0} if self.reducer.keeps_center else {}
        return {**self.optimizer.start(self.options), **center}
