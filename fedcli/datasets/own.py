"""A user's own pictures or arrays, in the shape of a run that was created elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fedcli.datasets import imagefolder, npz
from fedcli.datasets.arrays import Arrays, reading_of
from fedcli.datasets.base import Labels, Part
from fedcli.datasets.csv_labels import CsvLabels, read_csv_labels
from fedcli.datasets.folder_tree import read_tree, summarized
from fedcli.datasets.folders import understand_own
from fedcli.datasets.labels import Labelling, normal, numbers_of, of_run
from fedcli.datasets.listing import Listing, listed, without_bad
from fedcli.datasets.shards import Examples, chunks
from fedcli.errors import DataError, NotReadyError, UsageError
from fedcli.options import NONE, Declared, Given, declared, option_of
from fedcli.progress import Progress
from fedcli.run.info import DatasetInfo
from fedcli.storage.atomic import storage_errors

Split = Literal["train", "test"]

_READING = ("skip_bad", "labels_csv", "image_column", "label_column")


def reading_options() -> dict[str, Declared]:
    """Return the options for reading a client's own data, which are those of data sets."""
    return {**{name: declared(imagefolder.load)[name] for name in _READING}, **declared(npz.load)}


def load_examples(
    source: str, info: DatasetInfo, split: Split, progress: Progress, reading: Given = NONE
) -> Examples:
    """Read the examples of ``open_examples`` into memory. Also raises what reading them raises."""
    part = open_examples(source, info, split, progress, reading=reading)
    x = np.empty((len(part.labels), *info.shape), np.dtype(info.dtype))
    progress.start(f"reading {_path(source).name}", len(x))
    for chunk in chunks(np.arange(len(x)), max(1, x[:1].nbytes)):
        x[chunk] = part.read(chunk)
        progress.advance(len(chunk))
    return Examples(x, part.labels, part.skipped)


def open_examples(
    source: str,
    info: DatasetInfo,
    split: Split,
    progress: Progress,
    *,
    threads: int | None = None,
    reading: Given = NONE,
) -> Part:
    """Open a folder of class folders or an npz file, in the shape of the run.

    If the data has parts (``train/`` and ``test/``, or arrays such as ``train_images``), the part
    ``split`` is opened, else everything. Classes are identified by folder names, by class names in
    the npz file, or else by the run's class numbers. ``threads`` threads decode pictures, by
    default one per core; ``reading`` has the given ``reading_options``. Raises ``NotReadyError``
    if nothing is there, ``DataError`` for data that does not fit the run, ``UsageError`` for
    options that are for folders, and ``StorageError`` for data that cannot be read.
    """
    path = _path(source)
    with storage_errors("read", path):
        if not path.exists():
            raise NotReadyError(f"--data {path}: no such file or folder")
        is_folder = path.is_dir()
    if is_folder:
        part = _folder(path, info, split, progress, threads, reading)
    else:
        for name, value in reading.items():
            if name != "layout":
                raise UsageError(
                    f"{option_of(name)} {value}: is for a folder of pictures, not {path}"
                )
        part = _arrays(path, info, split, progress, reading.get("layout"))
    _say_missing(part, info, path, progress)
    return part


def _path(source: str) -> Path:
    return Path(source.removeprefix("imagefolder:").removeprefix("npz:")).expanduser()


def _folder(
    path: Path,
    info: DatasetInfo,
    split: Split,
    progress: Progress,
    threads: int | None,
    reading: Given,
) -> Part:
    if info.dtype != "uint8" or len(info.shape) != 3 or info.shape[0] not in (1, 3):
        raise DataError(
            f"is a folder of pictures, but this run's examples are {info.dtype} {list(info.shape)}",
            path=path,
        )
    listing, skipped = read_own(path, info.classes, split, progress, reading)
    listing = replace(listing, window=info.window)
    if reading.get("skip_bad"):
        (listing,), bad = without_bad([listing], info.shape, progress)
        skipped = (*skipped, *bad)
    return listing.part(info.shape, threads, skipped=skipped)


def read_own(
    path: Path, classes: tuple[str, ...], split: Split, progress: Progress, reading: Given
) -> tuple[Listing, tuple[str, ...]]:
    """List a client's pictures with the run's classes, and those of a table that are not there."""
    columns = {name: value for name, value in reading.items() if name != "skip_bad"}
    table = imagefolder.table_of(**{"labels_csv": None, **columns})
    if table is not None:
        return _by_table(path, classes, table, progress, skip=bool(reading.get("skip_bad")))
    found = understand_own(path, classes, split)
    found.say(progress)
    return listed(path, found.parts[split], classes), ()


def _by_table(
    path: Path, classes: tuple[str, ...], table: CsvLabels, progress: Progress, *, skip: bool
) -> tuple[Listing, tuple[str, ...]]:
    tree = read_tree(path)
    found = read_csv_labels(tree, table, skip_missing=skip)
    where = f"--labels-csv {found.path}"
    labels = numbers_of(normal(found.labels, where), classes, where)
    left_out = summarized([*tree.left_out, *found.unnamed])
    for line in (found.remark, *imagefolder.missing_remark(found.missing), *left_out):
        progress.say(f"{path}: {line}")
    labelling = Labelling(classes, (labels,))
    return imagefolder.table_listing(path, found.names, labelling, None), found.missing


def _arrays(
    path: Path, info: DatasetInfo, split: Split, progress: Progress, layout: str | None
) -> Part:
    file = npz.open_file(path, reading_of(layout, info.window))
    arrays = file.parts.get(split) or file.parts.get("all")
    if arrays is None:
        raise DataError(f"has no {split} part", path=path)
    if arrays.is_pictures != (info.dtype == "uint8") or not _can_become(arrays.shape, info):
        raise DataError(
            f"{arrays.name}: expected {info.dtype} examples of shape {list(info.shape)},"
            f" found {arrays.values.dtype} {list(arrays.shape)}",
            path=path,
        )
    for remark in arrays.remarks():
        progress.say(f"{path}: {remark}")
    labels = _own_labels(arrays, file.class_names, info.classes, progress)
    return arrays.part(info.shape, labels)


def _own_labels(
    arrays: Arrays, names: tuple[str, ...] | None, classes: tuple[str, ...], progress: Progress
) -> Labels:
    """Return the run's class numbers, and say how the file's labels were understood."""
    where = f"{arrays.path}: {arrays.name}"
    if arrays.labels.dtype.kind == "U":
        return numbers_of(normal(arrays.labels.tolist(), where), classes, where)
    labels = of_run(arrays.labels, names, classes, where)
    if names is not None and names != classes:
        progress.say(f"{arrays.path}: its classes are matched by name: {', '.join(names)}")
    elif names is None and not all(name.isdecimal() for name in classes):
        shown = ", ".join(f"{number} is {name}" for number, name in enumerate(classes[:10]))
        progress.say(f"{arrays.path}: its labels are the numbers of the run's classes: {shown}")
    return labels


def _can_become(shape: tuple[int, ...], info: DatasetInfo) -> bool:
    if info.dtype != "uint8":
        return shape == info.shape
    return shape[0] == info.shape[0] or {shape[0], info.shape[0]} == {1, 3}


def _say_missing(part: Part, info: DatasetInfo, path: Path, progress: Progress) -> None:
    seen = np.unique(part.labels)
    missing = [name for label, name in enumerate(info.classes) if label not in seen]
    if missing:
        progress.say(f"{path}: no examples of: {', '.join(missing)}")
