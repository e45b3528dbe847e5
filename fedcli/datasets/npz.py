"""``npz:PATH``: arrays, in MedMNIST's layout or as plain ``x`` and ``y``.

An optional array ``group`` (``group_test`` for the test part) names the group of each example.
"""

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from fedcli.datasets import pictures
from fedcli.datasets.base import DataOptions, Dataset, Indices, Labels, Part, split_off_test
from fedcli.datasets.groups import from_array, numbered
from fedcli.datasets.labels import Labelling, from_names, from_numbers
from fedcli.errors import DataError, NotReadyError, UsageError
from fedcli.formats.dtypes import Array
from fedcli.text import brief, is_utf8

_LAYOUTS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
)
_WHOLE = (("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels"))
_CLASS_NAMES = ("class_names", "classes")
_GROUPS = {"train": ("group", "group_train"), "test": ("group_test",), "all": ("group",)}


@dataclass(frozen=True)
class Arrays:
    """The arrays of one part, before examples are resized to the shape of the run.

    ``labels`` are those of the file: integers, or names of classes.
    """

    path: Path
    name: str
    values: Array
    labels: Array
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise ``DataError`` for examples that cannot be trained on."""
        where = f"{self.path}: {self.name}"
        if len(self.values) != len(self.labels):
            raise DataError(f"{where}: {len(self.values)} examples, {len(self.labels)} labels")
        if self.groups is not None and len(self.groups) != len(self.labels):
            raise DataError(
                f"{where}: {len(self.labels)} examples, but groups of {len(self.groups)}"
            )
        if len(self.labels) == 0:
            raise DataError(f"{where}: expected examples, found none")
        if self.is_pictures and (self.values.ndim not in (3, 4) or self.values.size == 0):
            raise DataError(
                f"{where}: expected uint8 pictures (N,H,W), (N,H,W,C) or (N,C,H,W), found"
                f" shape {list(self.values.shape)}"
            )
        if not self.is_pictures and (self.values.dtype.kind != "f" or self.values.ndim < 2):
            raise DataError(
                f"{where}: expected uint8 pictures or floating-point examples (N, …), found"
                f" {self.values.dtype} {list(self.values.shape)}"
            )

    @property
    def is_pictures(self) -> bool:
        """Whether the examples are pictures; other examples are used unchanged."""
        return self.values.dtype == np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, (C, H, W) for pictures."""
        shape = self.values.shape[1:]
        if not self.is_pictures:
            return shape
        if len(shape) == 2:
            return (1, *shape)
        return shape if self._channels_first else (shape[2], *shape[:2])

    @property
    def _channels_first(self) -> bool:
        return self.values.ndim == 4 and self.values.shape[3] > 4 >= self.values.shape[1]

    def part(self, shape: tuple[int, ...], labels: Labels) -> Part:
        """Return the part with examples of ``shape`` and the run's labels; pictures are resized."""
        read = partial(self._pictures, shape) if self.is_pictures else self._numbers
        return Part(labels, read)

    def _numbers(self, indices: Indices) -> Array:
        values = self.values[indices].astype("<f4")
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not finite.all():
            raise DataError(
                f"{self.name}: example {indices[np.argmin(finite)]} holds a value"
                " that is not a finite float32",
                path=self.path,
            )
        return values

    def _pictures(self, shape: tuple[int, ...], indices: Indices) -> Array:
        values = self.values[indices]
        if values.ndim == 3:
            values = values[:, None]
        elif not self._channels_first:
            values = values.transpose(0, 3, 1, 2)
        if values.shape[1:] == shape:
            return values
        return np.stack([_fitted(picture, shape) for picture in values])


def _fitted(picture: Array, shape: tuple[int, ...]) -> Array:
    """Convert one uint8 picture (C, H, W) to another shape."""
    channels = picture.shape[0]
    if channels in (1, 3) and shape[0] in (1, 3):
        image = Image.fromarray(picture[0] if channels == 1 else picture.transpose(1, 2, 0).copy())
        return pictures.as_array(image, shape)
    planes = [pictures.as_array(Image.fromarray(plane), (1, *shape[1:])) for plane in picture]
    return np.concatenate(planes)


# RuntimeError: encrypted, or (NotImplementedError) of a method or version that zipfile lacks.
_BAD_MEMBER = (KeyError, ValueError, EOFError, OverflowError, RuntimeError)


def read_member(file: zipfile.ZipFile, path: Path, name: str) -> Array:
    """Read one array into an unnamed temporary file, not into memory.

    Raises ``DataError`` for anything but plain numbers; nothing is ever unpickled.
    """
    try:
        with file.open(f"{name}.npy") as member:
            shape, column_order, dtype = _read_header(member)
            if dtype.hasobject:
                raise ValueError("it holds Python objects; expected plain numbers")
            if 0 in shape or not shape:
                return np.empty(shape or (0,), dtype)
            with tempfile.TemporaryFile() as spool:
                shutil.copyfileobj(member, spool, 1 << 20)
                values = np.memmap(spool, dtype, "r", shape=shape[::-1] if column_order else shape)
            return np.asarray(values).T if column_order else np.asarray(values)
    except (*_BAD_MEMBER, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: not a readable array: {error}", path=path) from None


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(member) == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def _column(values: Array) -> Array:
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _labels(file: zipfile.ZipFile, path: Path, name: str) -> Array:
    labels = _column(read_member(file, path, name))
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{name}: expected one integer or one name for each example, (N) or (N,1),"
            f" found {labels.dtype} {list(labels.shape)}",
            path=path,
        )
    return labels if labels.dtype.kind == "U" else np.array(labels, np.int64)


def _groups(
    file: zipfile.ZipFile, path: Path, part: str, names: set[str]
) -> tuple[str, ...] | None:
    given = [name for name in _GROUPS[part] if name in names]
    if not given:
        return None
    if len(given) > 1:
        raise DataError(f"expected one array of groups, found {' and '.join(given)}", path=path)
    return from_array(_column(read_member(file, path, given[0])), f"{path}: {given[0]}")


@dataclass(frozen=True)
class File:
    """The contents of an npz file: parts (``train`` and ``test``, or ``all``) and class names."""

    parts: Mapping[str, Arrays]
    class_names: tuple[str, ...] | None
    digest: str


def open_file(path: Path) -> File:
    """Open an npz file. Raises ``NotReadyError``, and ``DataError`` for bad contents."""
    if not path.exists():
        raise NotReadyError("no such file", path=path)
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
            parts = {
                part: Arrays(
                    path,
                    x,
                    read_member(file, path, x),
                    _labels(file, path, y),
                    _groups(file, path, part, names),
                )
                for part, x, y in _members(names, path)
            }
            given = [name for name in _CLASS_NAMES if name in names]
            class_names = _strings(file, path, given[0]) if given else None
            crcs = sorted((info.filename, info.CRC, info.file_size) for info in file.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise DataError(f"not an npz file: {error}", path=path) from None
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


def load(argument: str, options: DataOptions) -> Dataset:
    """Open ``npz:PATH``. Pictures keep their channels; other arrays are used unchanged.

    Raises ``NotReadyError``, ``DataError``, and ``UsageError`` for ``--image-size`` without
    pictures.
    """
    file = open_file(Path(argument).expanduser())
    if "test" in file.parts and "train" not in file.parts:
        raise DataError(f"{argument}: has a test part but no training part")
    arrays = list(file.parts.values())
    first = arrays[0]
    shape, dtype = first.shape, np.dtype("u1" if first.is_pictures else "<f4")
    if options.image_size is not None:
        if not first.is_pictures:
            raise UsageError(f"--image-size: {argument} holds no uint8 pictures")
        shape = (shape[0], options.image_size, options.image_size)
    for other in arrays[1:]:
        if other.is_pictures != first.is_pictures or other.shape[0] != first.shape[0]:
            raise DataError(f"{argument}: {other.name} and {first.name} differ in dtype or shape")
    labelling = _labelling(arrays, file.class_names)
    if labelling.remark:
        options.progress.say(f"{argument}: {labelling.remark}")
    identity: dict[str, Any] = {"sha256": file.digest}
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
    return Dataset("npz", labelling.classes, shape, dtype, train, test, identity, grouping.names)


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
