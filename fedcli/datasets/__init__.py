"""Data sets by name, and a user's own pictures or arrays."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fedcli.datasets import from_torchvision, imagefolder, npz, synthetic, torchvision_sets
from fedcli.datasets.base import DataOptions, Dataset, DatasetReader, Part
from fedcli.datasets.own import load_examples, open_examples
from fedcli.errors import UsageError
from fedcli.options import option_of, unknown_value

__all__ = [
    "DATASETS",
    "DataOptions",
    "Dataset",
    "Part",
    "load_dataset",
    "load_examples",
    "open_examples",
    "specs",
]

DATASETS: dict[str, DatasetReader] = {
    "synthetic": DatasetReader(synthetic.load),
    "imagefolder": DatasetReader(imagefolder.load, "PATH"),
    "npz": DatasetReader(
        npz.load, "PATH", refuses={"group": "its groups are in its array 'group'"}
    ),
    **{
        name: DatasetReader(partial(from_torchvision.load, name))
        for name in torchvision_sets.SOURCES
    },
}


def specs() -> list[str]:
    """Return how data sets are named, with ``:`` where a path follows."""
    return [f"{name}:" if reader.takes else name for name, reader in DATASETS.items()]


def load_dataset(spec: str, options: DataOptions, own: Mapping[str, Any] | None = None) -> Dataset:
    """Read the classes, labels and shape of a data set; pictures are decoded on demand.

    ``spec`` is ``NAME`` or ``NAME:PATH``; ``own`` are options of that data set alone. Raises
    ``UsageError`` for an unknown name, ``NotReadyError`` for missing files, ``DataError`` for
    files that do not fit.
    """
    name, _, argument = spec.partition(":")
    if name not in DATASETS:
        error = unknown_value("--dataset", spec, specs())
        if (typed := _prefixed(Path(spec))) is not None:
            error.hint, error.unknown = typed, None
        raise error
    reader = DATASETS[name]
    if reader.takes and not argument:
        raise UsageError(f"--dataset {spec}: expected {name}:{reader.takes}")
    if argument and not reader.takes:
        raise UsageError(f"--dataset {spec}: {name} takes no argument")
    for option, value in (own or {}).items():
        if option not in reader.declared:
            why = reader.refuses.get(option, f"{name} has none")
            raise UsageError(f"{option_of(option)} {value}: it is for {_owners(option)}; {why}")
    dataset = reader.load(argument, options, **(own or {}))
    return replace(dataset, options=_recorded(own or {}, dataset.identity))


def _recorded(own: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        option: value
        for option, value in own.items()
        if value not in (None, False) and not isinstance(value, Path) and option not in identity
    }


def _prefixed(path: Path) -> str | None:
    """Return how to name a file or folder that is there."""
    if not path.exists():
        return None
    return f"--dataset {'imagefolder' if path.is_dir() else 'npz'}:{path}"


def _owners(option: str) -> str:
    """Name the data sets that have an option."""
    owners = {name: reader for name, reader in DATASETS.items() if option in reader.declared}
    return ", ".join(f"{name}:{row.takes}" if row.takes else name for name, row in owners.items())
