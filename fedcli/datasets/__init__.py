"""Data sets by name, and a person's own pictures or arrays."""

from collections.abc import Callable
from functools import partial

from fedcli.datasets import from_torchvision, imagefolder, npz, synthetic
from fedcli.datasets.base import DataOptions, Dataset, Part
from fedcli.datasets.own import load_examples, open_examples
from fedcli.errors import UsageError

__all__ = [
    "DATASETS",
    "DataOptions",
    "Dataset",
    "Part",
    "load_dataset",
    "load_examples",
    "open_examples",
]

DATASETS: dict[str, Callable[[str, DataOptions], Dataset]] = {
    "synthetic": synthetic.load,
    "imagefolder": imagefolder.load,
    "npz": npz.load,
    **{name: partial(from_torchvision.load, name) for name in from_torchvision.SOURCES},
}


def load_dataset(spec: str, options: DataOptions) -> Dataset:
    """Read what a data set is: classes, labels and shape; pictures are decoded when asked for.

    ``spec`` is ``NAME`` or ``NAME:PATH``. Raises ``UsageError`` for a name that is not known,
    ``NotReadyError`` when files are missing, ``DataError`` when they do not fit.
    """
    name, _, argument = spec.partition(":")
    if name not in DATASETS:
        raise UsageError(f"--dataset: unknown data set {spec!r}; known: {', '.join(DATASETS)}")
    if name in ("imagefolder", "npz") and not argument:
        raise UsageError(f"--dataset {spec}: expected {name}:PATH")
    if options.group is not None and name != "imagefolder":
        own = "its groups are in its array 'group'" if name == "npz" else f"{name} has no groups"
        raise UsageError(f"--group {options.group}: it is for imagefolder:PATH; {own}")
    return DATASETS[name](argument, options)
