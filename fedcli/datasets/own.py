"""A user's own pictures or arrays, in the shape of a run that was created elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fedcli.datasets import imagefolder, npz
from fedcli.datasets.base import Part
from fedcli.datasets.shards import Examples, chunks
from fedcli.errors import DataError, NotReadyError
from fedcli.progress import Progress
from fedcli.run.info import DatasetInfo
from fedcli.storage.atomic import storage_errors

Split = Literal["train", "test"]


def load_examples(source: str, info: DatasetInfo, split: Split, progress: Progress) -> Examples:
    """Read the examples of ``open_examples`` into memory. Also raises what reading them raises."""
    part = open_examples(source, info, split, progress)
    x = np.empty((len(part.labels), *info.shape), np.dtype(info.dtype))
    progress.start(f"reading {_path(source).name}", len(x))
    for chunk in chunks(np.arange(len(x)), max(1, x[:1].nbytes)):
        x[chunk] = part.read(chunk)
        progress.advance(len(chunk))
    return Examples(x, part.labels)


def open_examples(
    source: str, info: DatasetInfo, split: Split, progress: Progress, *, threads: int | None = None
) -> Part:
    """Open a folder of class folders or an npz file, in the shape of the run.

    If the data has parts (``train/`` and ``test/``, or arrays such as ``train_images``), the part
    ``split`` is opened, else everything. Classes are identified by folder names, by class names in
    the npz file, or else by the run's class numbers. ``threads`` threads decode pictures, by
    default one per core. Raises ``NotReadyError`` if nothing is there, ``DataError`` for data that
    does not fit the run, and ``StorageError`` for data that cannot be read.
    """
    path = _path(source)
    with storage_errors("read", path):
        if not path.exists():
            raise NotReadyError(f"--data {path}: no such file or folder")
        is_folder = path.is_dir()
    if is_folder:
        part = _folder(path, info, split, progress).part(info.shape, threads)
    else:
        part = _arrays(path, info, split)
    _say_missing(part, info, path, progress)
    return part


def _path(source: str) -> Path:
    return Path(source.removeprefix("imagefolder:").removeprefix("npz:")).expanduser()


def _folder(path: Path, info: DatasetInfo, split: Split, progress: Progress) -> imagefolder.Listing:
    if info.dtype != "uint8" or len(info.shape) != 3 or info.shape[0] not in (1, 3):
        raise DataError(
            f"is a folder of pictures, but this run's examples are {info.dtype} {list(info.shape)}",
            path=path,
        )
    root = path / split if (path / split).is_dir() else path
    return imagefolder.list_folder(root, info.classes, progress)


def _arrays(path: Path, info: DatasetInfo, split: Split) -> Part:
    file = npz.open_file(path)
    arrays = file.parts.get(split) or file.parts.get("all")
    if arrays is None:
        raise DataError(f"has no {split} part", path=path)
    names = file.class_names or info.classes
    npz.check_labels(arrays, names)
    unknown = [name for name in names if name not in info.classes]
    if unknown:
        known = ", ".join(info.classes[:20])
        raise DataError(f"no class {unknown[0]!r} in this run; its classes are: {known}", path=path)
    if arrays.is_pictures != (info.dtype == "uint8") or not _can_become(arrays.shape, info):
        raise DataError(
            f"{arrays.name}: expected {info.dtype} examples of shape {list(info.shape)},"
            f" found {arrays.values.dtype} {list(arrays.shape)}",
            path=path,
        )
    numbers = np.array([info.classes.index(name) for name in names])
    return replace(arrays.part(info.shape), labels=numbers[arrays.labels])


def _can_become(shape: tuple[int, ...], info: DatasetInfo) -> bool:
    if info.dtype != "uint8":
        return shape == info.shape
    return shape[0] == info.shape[0] or {shape[0], info.shape[0]} == {1, 3}


def _say_missing(part: Part, info: DatasetInfo, path: Path, progress: Progress) -> None:
    seen = np.unique(part.labels)
    missing = [name for label, name in enumerate(info.classes) if label not in seen]
    if missing:
        progress.say(f"{path}: no examples of: {', '.join(missing)}")
