"""The plan: what the steps of a run do when an option is not given.

It is set when the run is made, from a TOML file and from options, and kept in ``run.json``.
"""

import math
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import NotReadyError, StorageError, UsageError

Augmentation = str
AUGMENTATIONS: dict[str, str] = {
    "flip": "mirror half of the pictures left to right",
    "crop": "shift each picture by up to an eighth of its size, filling with black",
}


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise UsageError(f"--{name}: expected a number above 0, found {value}")


def _not_negative(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise UsageError(f"--{name}: expected a number of at least 0, found {value}")


def one_of(option: str, value: str, known: Mapping[str, object]) -> str:
    """Return ``value`` when it is known; raise ``UsageError`` that lists what is."""
    if value not in known:
        raise UsageError(f"{option}: unknown value {value!r}; known: {', '.join(known)}")
    return value


@dataclass(frozen=True)
class TrainPlan:
    """The hyper-parameters of local training (SGD)."""

    epochs: int = 5
    lr: float = 0.01
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 0.0
    augment: tuple[Augmentation, ...] = ()
    initial_loss: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with (``UsageError``)."""
        _positive("epochs", self.epochs)
        _positive("lr", self.lr)
        _positive("batch-size", self.batch_size)
        _not_negative("momentum", self.momentum)
        _not_negative("weight-decay", self.weight_decay)
        for name in self.augment:
            one_of("--augment", name, AUGMENTATIONS)


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

    def __post_init__(self) -> None:
        """Refuse numbers out of range (``UsageError``)."""
        for name, (expected, holds) in _AGGREGATE_RANGES.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: expected {expected}, found {value}")
        if self.clients_per_round is not None and self.fraction is not None:
            raise UsageError("--clients-per-round and --fraction: give one of them")

    def with_options(self, typed: Mapping[str, Any]) -> "AggregatePlan":
        """Return the plan with what was typed (not None) in place of its own.

        Another strategy starts from its own defaults; another way to say how many clients take
        part replaces the one before. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        kept = self
        if given.keys() & {"clients_per_round", "fraction"}:
            kept = replace(kept, clients_per_round=None, fraction=None)
        if given.get("strategy", self.strategy) != self.strategy:
            kept = AggregatePlan(clients_per_round=kept.clients_per_round, fraction=kept.fraction)
        return updated(kept, given)


_Range = tuple[str, Callable[[float], bool]]
_ABOVE_0: _Range = ("a number above 0", lambda value: 0 < value < math.inf)
_FROM_0: _Range = ("a number of at least 0", lambda value: 0 <= value < math.inf)
_FROM_1: _Range = ("1 or more", lambda value: value >= 1)
_BELOW_1: _Range = ("a number from 0 to below 1", lambda value: 0 <= value < 1)
_AGGREGATE_RANGES: dict[str, _Range] = {
    "trim": ("a share from 0 to below 0.5", lambda value: 0 <= value < 0.5),
    "byzantine": _FROM_0,
    "keep": _FROM_1,
    "clip_norm": _ABOVE_0,
    "iterations": _FROM_1,
    "smoothing": _ABOVE_0,
    "server_lr": _ABOVE_0,
    "server_momentum": _BELOW_1,
    "beta1": _BELOW_1,
    "beta2": _BELOW_1,
    "tau": _ABOVE_0,
    "q": _FROM_0,
    "buffer": _FROM_1,
    "max_staleness": _FROM_0,
    "clients_per_round": _FROM_1,
    "fraction": ("a share above 0, at most 1", lambda value: 0 < value <= 1),
}


Section = TypeVar("Section", TrainPlan, AggregatePlan)


def updated(section: Section, values: Mapping[str, Any]) -> Section:
    """Return the section with the values that are given (not None) in place of its own."""
    hints = get_type_hints(type(section))
    given = {key: value for key, value in values.items() if value is not None}
    checked = {
        key: convert(hints[key], value, f"--{key.replace('_', '-')}")
        for key, value in given.items()
    }
    return replace(section, **checked)


@dataclass(frozen=True)
class Plan:
    """The plan of a run, one section a step."""

    train: TrainPlan = field(default_factory=TrainPlan)
    aggregate: AggregatePlan = field(default_factory=AggregatePlan)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as ``run.json`` holds it: without what is left to the strategy."""
        return {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in asdict(self).items()
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], origin: str) -> Self:
        """Build a plan from ``{"train": {...}, "aggregate": {...}}``.

        Raises ``UsageError`` that names ``origin``, the section and the key.
        """
        sections = {}
        known = get_type_hints(cls)
        for name, section in values.items():
            if name not in known or not isinstance(section, Mapping):
                raise UsageError(f"{origin}: unknown section [{name}]; known: {', '.join(known)}")
            sections[name] = _section(known[name], section, f"{origin}: [{name}]")
        return cls(**sections)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file. Raises ``NotReadyError``, ``StorageError`` and ``UsageError``."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotReadyError(f"{path}: no such file") from None
        except OSError as error:
            raise StorageError(f"{path}: cannot read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not a TOML file: {error}") from None
        return cls.from_mapping(values, str(path))


def _section(cls: type[Any], values: Mapping[str, Any], origin: str) -> Any:
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            names = ", ".join(f.name for f in fields(cls))
            raise UsageError(f"{origin} has an unknown key {key!r}; known: {names}")
    return cls(
        **{key: convert(hints[key], value, f"{origin} {key}") for key, value in values.items()}
    )


def convert(expected: Any, value: Any, origin: str) -> Any:
    """Check a value read from JSON or TOML against a type hint; lists become tuples.

    Raises ``UsageError`` that names ``origin``.
    """
    if get_origin(expected) is tuple and isinstance(value, list | tuple):
        item = get_args(expected)[0]
        return tuple(convert(item, element, origin) for element in value)
    if get_origin(expected) is types.UnionType:
        if value is None:
            return None
        expected = get_args(expected)[0]
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise UsageError(f"{origin}: expected {expected.__name__}, found {value!r}")
    return value
