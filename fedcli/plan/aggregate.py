"""Section ``aggregate`` of the plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedcli.errors import UsageError
from fedcli.options import ABOVE_0, BELOW_1, FROM_0, FROM_1, Range, check_ranges, updated

PARTS = ("reduce", "server_optimizer", "weighting")
SAMPLING = ("clients_per_round", "fraction")
LIMITS = ("max_norm", "max_examples")
_OF_EVERY_RULE = (*SAMPLING, *LIMITS)


@dataclass(frozen=True)
class AggregatePlan:
    """How updates are combined, and how many clients take part in a round.

    What is None is left to the strategy. ``strategies.resolve`` says whether the names exist and
    which options the rule has.
    """

    strategy: str = "fedavg"
    reduce: str | None = None
    server_optimizer: str | None = None
    weighting: str | None = None
    trim: float | None = None
    byzantine: int | None = None
    keep: int | None = None
    clip_norm: float | None = None
    iterations: int | None = None
    smoothing: float | None = None
    server_lr: float | None = None
    server_momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    tau: float | None = None
    bias_correction: bool | None = None
    q: float | None = None
    buffer: int | None = None
    max_staleness: int | None = None
    clients_per_round: int | None = None
    fraction: float | None = None
    max_norm: float | None = None
    max_examples: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range (``UsageError``)."""
        check_ranges(self, _RANGES)
        if self.clients_per_round is not None and self.fraction is not None:
            raise UsageError("--clients-per-round and --fraction: give one of them")

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the rule that are not left to the strategy."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}

    @property
    def limits(self) -> dict[str, float]:
        """What an update must not exceed."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    def with_options(self, typed: Mapping[str, Any]) -> "AggregatePlan":
        """Return the plan with what was typed (not None) in place of its own.

        Another strategy starts from its own defaults; another way to say how many clients take
        part replaces the one before. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        kept = self
        if given.keys() & set(SAMPLING):
            kept = replace(kept, clients_per_round=None, fraction=None)
        if given.get("strategy", self.strategy) != self.strategy:
            kept = AggregatePlan(**{name: getattr(kept, name) for name in _OF_EVERY_RULE})
        return updated(kept, given)


_RANGES: dict[str, Range] = {
    "trim": ("a share from 0 to below 0.5", lambda value: 0 <= value < 0.5),
    "byzantine": FROM_0,
    "keep": FROM_1,
    "clip_norm": ABOVE_0,
    "iterations": FROM_1,
    "smoothing": ABOVE_0,
    "server_lr": ABOVE_0,
    "server_momentum": BELOW_1,
    "beta1": BELOW_1,
    "beta2": BELOW_1,
    "tau": ABOVE_0,
    "q": FROM_0,
    "buffer": FROM_1,
    "max_staleness": FROM_0,
    "clients_per_round": FROM_1,
    "fraction": ("a share above 0, at most 1", lambda value: 0 < value <= 1),
    "max_norm": ABOVE_0,
    "max_examples": FROM_1,
}
