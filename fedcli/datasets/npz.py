"""``npz:PATH``: arrays, in MedMNIST's layout or as plain ``x`` and ``y``.

An optional array ``group`` (``group_test`` for the test part) names the group of each example.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fedcli.datasets import axes
from fedcli.datasets.array_file import read_member
from fedcli.datasets.arrays import Arrays, Reading, reading_of
from fedcli.datasets.base import DataOptions, Dataset, split_off_test
from fedcli.datasets.file_kinds import is_packed, kind_of, other_file
from fedcli.datasets.groups import numbered
from fedcli.datasets.labels import Labelling, from_names, from_numbers
from fedcli.errors import DataError, NotReadyError, UsageError
from fedcli.options import Option
from fedcli.text import brief, is_utf8

_LAYOUTS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
)
_WHOLE = (("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels"))
_CLASS_NAMES = ("class_names", "classes")


@dataclass(frozen=True)
class File:
    """The contents of an npz file: parts (``train`` and ``test``, or ``all``) and class names."""

    parts: Mapping[str, Arrays]
    class_names: tuple[str, ...] | None
    digest: str


def open_file(path: Path, reading: Reading | None = None) -> File:
    """Open an npz file. Raises ``NotReadyError``, and ``DataError`` for bad contents."""
    reading = reading or Reading()
    if not path.exists():
        raise NotReadyError("no such file", path=path)
    if path.is_dir():
        raise DataError(
            "expected an npz file, found a folder",
            hint=f"to read its pictures, name it imagefolder:{path}",
            path=path,
        )
    if is_packed(path):
        raise other_file(path, "an npz file or a folder of pictures")
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
            found = (Arrays.read(file, path, each, reading) for each in _members(names, path))
            parts = {each[0]: one for each, one in zip(_members(names, path), found, strict=True)}
            given = [name for name in _CLASS_NAMES if name in names]
            class_names = _strings(file, path, given[0]) if given else None
            crcs = sorted((info.filename, info.CRC, info.file_size) for info in file.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        if kind_of(path) == "a zip file":
            raise DataError(f"is a damaged npz file: {error}", path=path) from None
        raise other_file(path, "an npz file or a folder of pictures") from None
    return File(parts, class_names, hashlib.sha256(repr(crcs).encode()).hexdigest())


def _members(names: set[str], path: Path) -> list[tuple[str, str, str]]:
    for train_x, train_y, test_x, test_y in _LAYOUTS:
        if {train_x, train_y} <= names:
            found = [("train", train_x, train_y)]
            return [*found, ("test", test_x, test_y)] if {test_x, test_y} <= names else found
        if {test_x, test_y} <= names:
            return [("test", test_x, test_y)]
    for x, y in _WHOLE:
        if {x, y} <= names:
            return [("all", x, y)]
    raise DataError(
        f"expected the arrays x and y, or train_images and train_labels; found"
        f" {', '.join(sorted(names)) or 'none'}",
        path=path,
    )


def _strings(file: zipfile.ZipFile, path: Path, name: str) -> tuple[str, ...]:
    values = read_member(file, path, name)
    if values.ndim != 1 or values.dtype.kind != "U":
        raise DataError(f"{name}: expected a list of strings, found {values.dtype}", path=path)
    if bad := [value for value in values.tolist() if not is_utf8(value)]:
        raise DataError(f"{name}: {brief(bad[0])} is not text in UTF-8", path=path)
    return tuple(values.tolist())


def load(
    argument: str,
    options: DataOptions,
    *,
    layout: Annotated[
        str | None,
        Option(
            "The axes of arrays of pictures, in order: N examples, C channels, height H, width W.",
            "AXES",
            unset="`NHW`; of four axes, the smallest after the first or at the end is C",
        ),
    ] = None,
) -> Dataset:
    """Open ``npz:PATH``. Pictures keep their channels; other arrays are used unchanged.

    Raises ``NotReadyError``, ``DataError``, and ``UsageError`` for ``--image-size`` without
    pictures.
    """
    file = open_file(Path(argument).expanduser(), reading_of(layout, options.window))
    if "test" in file.parts and "train" not in file.parts:
        raise DataError(f"{argument}: has a test part but no training part")
    arrays = list(file.parts.values())
    shape = _shape(argument, arrays, options)
    labelling = _labelling(arrays, file.class_names)
    if labelling.remark:
        options.progress.say(f"{argument}: {labelling.remark}")
    identity: dict[str, Any] = {"sha256": file.digest}
    if layout is not None:
        identity["layout"] = axes.check_layout(layout)
    grouping = numbered([one.groups for one in arrays])
    parts = [
        replace(one.part(shape, labels), groups=numbers)
        for one, labels, numbers in zip(arrays, labelling.parts, grouping.parts, strict=True)
    ]
    if len(parts) == 2:
        train, test = parts
    else:
        train, test, split = split_off_test(parts[0], options)
        identity |= split
    return Dataset(
        "npz", labelling.classes, shape, arrays[0].dtype, train, test, identity, grouping.names
    )


def _shape(argument: str, arrays: Sequence[Arrays], options: DataOptions) -> tuple[int, ...]:
    """Return the shape of an example; say how arrays are read.

    Raises ``UsageError`` for ``--image-size`` without pictures, and ``DataError`` for parts that
    differ.
    """
    first = arrays[0]
    shape = first.shape
    if options.image_size is not None:
        if not first.is_pictures:
            raise UsageError(f"--image-size: {argument} holds no uint8 pictures")
        shape = (shape[0], options.image_size, options.image_size)
    for one in arrays:
        for remark in one.remarks():
            options.progress.say(f"{argument}: {remark}")
    for other in arrays[1:]:
        if other.is_pictures != first.is_pictures or other.shape[0] != first.shape[0]:
            raise DataError(f"{argument}: {other.name} and {first.name} differ in dtype or shape")
    return shape


def _labelling(arrays: Sequence[Arrays], names: tuple[str, ...] | None) -> Labelling:
    """Number the labels of all parts alike. Raises ``DataError``."""
    where = f"{arrays[0].path}: {arrays[0].name}"
    are_names = [one.labels.dtype.kind == "U" for one in arrays]
    if not any(are_names):
        found = from_numbers([one.labels for one in arrays], names, where)
    elif all(are_names):
        found = from_names([one.labels.tolist() for one in arrays], where)
    else:
        raise DataError(f"{where}: some labels are names, others numbers")
    if len(found.classes) < 2:
        raise DataError(f"{where}: expected at least two classes, found {found.classes[0]!r}")
    return found
