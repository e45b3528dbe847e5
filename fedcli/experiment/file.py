"""An experiment in a TOML file: one table per section, whose keys are options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.values import typed_value, unknown
from fedcli.plan import read_toml
from fedcli.text import brief

_SWEEP = "sweep"


@dataclass(frozen=True)
class Experiment:
    """The values of a file by section and key; ``sweep`` as it stands there."""

    settings: Mapping[str, Mapping[str, Any]]
    sweep: Mapping[str, Any]


def read_experiment(path: Path) -> Experiment:
    """Read a TOML file. Raises ``NotReadyError``, ``StorageError`` and ``UsageError``."""
    tables = read_toml(path)
    for name, table in tables.items():
        if name not in (*SECTIONS, _SWEEP):
            raise unknown("section", name, (*SECTIONS, _SWEEP), str(path))
        if not isinstance(table, dict):
            raise UsageError(f"{path}: expected a section [{name}], found {brief(table)}")
    sweep = tables.pop(_SWEEP, {})
    return Experiment({name: _section(path, name, table) for name, table in tables.items()}, sweep)


def _section(path: Path, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    known, origin = SECTIONS[name](), f"{path}: [{name}]"
    for key in table:
        if key not in known:
            raise unknown("key", key, known, origin)
    return {k: typed_value(known[k], value, f"{origin} {k}") for k, value in table.items()}
