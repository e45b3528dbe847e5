"""The plan: what the steps of a run do when an option is not given.

It is set when the run is made, from a TOML file and from options, and kept in ``run.json``.
"""

import tomllib
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import NotReadyError, StorageError, UsageError

Augmentation = str
AUGMENTATIONS: dict[str, str] = {
    "flip": "mirror half of the pictures left to right",
    "crop": "shift each picture by up to an eighth of its size, filling with black",
}
WEIGHTINGS: dict[str, str] = {
    "examples": "a client counts in proportion to its number of examples",
    "uniform": "every client counts the same",
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
    """How updates are combined."""

    weighting: str = "examples"

    def __post_init__(self) -> None:
        """Refuse a weighting that does not exist (``UsageError``)."""
        one_of("--weighting", self.weighting, WEIGHTINGS)


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
        """Return the plan as ``run.json`` holds it."""
        return asdict(self)

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
