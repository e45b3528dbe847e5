"""An experiment in a TOML file: one table per section, whose keys are options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.values import noted, raise_together, typed_value, unknown
from fedcli.options import Declared, option_of
from fedcli.plan import read_toml
from fedcli.text import brief

SWEEP = "sweep"
_NAMES = (*SECTIONS, SWEEP)


@dataclass(frozen=True)
class Experiment:
    """The values of a file by section and key; ``sweep`` as it stands there."""

    settings: Mapping[str, Mapping[str, Any]]
    sweep: Mapping[str, Any]


def read_experiment(path: Path) -> Experiment:
    """Read a TOML file.

    Raises ``NotReadyError``, ``StorageError``, and ``UsageError`` that names all faults at once.
    """
    tables, faults = read_toml(path), list[UsageError]()
    read = _Reading(faults)
    settings = {name: read.table(name, table) for name, table in tables.items()}
    raise_together(path, faults)
    sweep = settings.pop(SWEEP, {})
    return Experiment(settings, sweep)


@dataclass(frozen=True)
class _Reading:
    """The reading of tables, which takes down every fault and goes on."""

    faults: list[UsageError]

    def table(self, name: str, table: Any) -> Mapping[str, Any]:
        """Return a section with typed values."""
        if name not in _NAMES:
            self.faults.append(_unknown_section(name, table))
        elif not isinstance(table, Mapping):
            self.faults.append(UsageError(f"[{name}]: expected a section, found {brief(table)}"))
        elif name == SWEEP:
            return table
        else:
            return dict(self._values(name, table))
        return {}

    def _values(self, section: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        known = SECTIONS[section]()
        for key, value in table.items():
            with noted(self.faults):
                yield key, _typed(known, section, key, value)


def _typed(known: Mapping[str, Declared], section: str, key: str, value: Any) -> Any:
    origin = f"[{section}]"
    if key in known:
        return typed_value(known[key], value, f"{origin} {key}")
    error = unknown("key", key, known, origin)
    if (own := _key_with_alias(key, known)) is not None:
        raise error.amended(hint=f"did you mean {own}?")
    places = _sections_with(key)
    raise error.amended(hint=f"{key} belongs in {places}") if places else error


def _key_with_alias(key: str, known: Mapping[str, Declared]) -> str | None:
    """Return the key of the option that has another word like this key."""
    words = {word: own for own, one in known.items() for word in one.option.aliases}
    return words.get(option_of(key))


def _sections_with(key: str) -> str:
    return " or ".join(f"[{name}]" for name, options in SECTIONS.items() if key in options())


def _unknown_section(name: str, table: Any) -> UsageError:
    if not isinstance(table, Mapping) and (places := _sections_with(name)):
        return UsageError(f"{name}: stands in no section", hint=f"{name} belongs in {places}")
    error = unknown("section", name, _NAMES, "it")
    return error.amended(message=f"unknown section {brief(name)}", hint=error.hint)
