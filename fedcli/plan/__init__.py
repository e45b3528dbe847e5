"""The plan: the defaults of a run for options that are not given.

It is set when the run is created, from a TOML file and options, and stored in ``run.json``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from fedcli.errors import NotReadyError, StorageError, UsageError
from fedcli.plan.aggregate import PARTS, AggregatePlan
from fedcli.plan.choices import AUGMENTATIONS
from fedcli.plan.secagg import SecaggPlan
from fedcli.plan.sections import section_of
from fedcli.plan.train import TrainPlan

__all__ = [
    "AUGMENTATIONS",
    "AggregatePlan",
    "Plan",
    "TrainPlan",
    "asks_for_rule",
    "check_halves",
    "read_toml",
]
_SECTIONS = ("train", "aggregate", "secagg")


@dataclass(frozen=True)
class Plan:
    """The plan of a run, with one section per step; ``secagg`` is None if updates are plain."""

    train: TrainPlan = field(default_factory=TrainPlan)
    aggregate: AggregatePlan = field(default_factory=AggregatePlan)
    secagg: SecaggPlan | None = None

    @property
    def withholds(self) -> bool:
        """Whether clients publish nothing of their data that is not masked or covered by noise."""
        return self.secagg is not None or self.train.dp is not None

    @property
    def is_private(self) -> bool:
        """Whether noise or masks protect examples or clients."""
        return self.withholds or bool(self.aggregate.update_noise)

    def with_options(
        self,
        training: Mapping[str, Any],
        aggregation: Mapping[str, Any],
        *,
        rule_asked_for: bool | None = None,
    ) -> "Plan":
        """Return the plan updated with the typed values that are not None.

        Another algorithm also sets its strategy, unless a rule was requested. ``rule_asked_for``
        says whether the plan's own rule was requested; by default, it was if it differs from the
        strategy of the plan's algorithm. Raises ``UsageError``.
        """
        train = self.train.with_options(training)
        rule = {key: value for key, value in aggregation.items() if value is not None}
        if rule_asked_for is None:
            own = self.train.local.strategy
            rule_asked_for = self.aggregate.strategy != own or bool(self.aggregate.parts)
        other_algorithm = train.algorithm != self.train.algorithm
        if other_algorithm and not rule_asked_for and not asks_for_rule(rule):
            rule = {**rule, "strategy": train.local.strategy}
        return replace(self, train=train, aggregate=self.aggregate.with_options(rule))

    def as_json(self) -> dict[str, Any]:
        """Return the plan as in ``run.json``, without values that are off or left to the rule."""
        rule = _given(asdict(self.aggregate))
        masked = {} if self.secagg is None else {"secagg": _given(asdict(self.secagg))}
        return {"train": self.train.as_json(), "aggregate": rule, **masked}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], origin: str) -> Self:
        """Build a plan from ``{"train": {...}, "aggregate": {...}}``.

        The default rule is the strategy of the algorithm. Raises ``UsageError`` that names
        ``origin``, the section and the key.
        """
        for name, section in values.items():
            if name not in _SECTIONS or not isinstance(section, Mapping):
                known = ", ".join(_SECTIONS)
                raise UsageError(f"{origin}: unknown section [{name}]; known: {known}")
        train = TrainPlan.from_mapping(values.get("train", {}), f"{origin}: [train]")
        rule = values.get("aggregate", {})
        aggregate = section_of(AggregatePlan, rule, f"{origin}: [aggregate]")
        if not asks_for_rule(rule):
            aggregate = replace(aggregate, strategy=train.local.strategy)
        masked = values.get("secagg")
        secagg = None if masked is None else section_of(SecaggPlan, masked, f"{origin}: [secagg]")
        return cls(train, aggregate, secagg)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ``NotReadyError``, ``StorageError`` and ``UsageError``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotReadyError("no such file", path=path) from None
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror}", path=path) from error
    except ValueError as error:  # bad UTF-8, bad TOML, or numbers with thousands of digits
        raise UsageError(f"not a TOML file: {error}", path=path) from None


def asks_for_rule(aggregation: Mapping[str, Any]) -> bool:
    """Return whether these options of ``aggregate`` name a strategy or parts of one."""
    return any(aggregation.get(name) is not None for name in ("strategy", *PARTS))


def check_halves(plan: TrainPlan, server_optimizer: str) -> None:
    """Raise ``UsageError`` for a rule without the server's half of the plan's algorithm."""
    row = plan.local
    if row.needs_strategy and server_optimizer != row.strategy:
        raise UsageError(
            f"--algorithm {plan.algorithm}: needs the server optimizer {row.strategy}, but the"
            f" rule has {server_optimizer}",
            hint=f"use --strategy {row.strategy}",
        )
