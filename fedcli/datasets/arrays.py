"""The arrays of a part of a data set: how they are read, and what they become in training."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedcli.datasets import axes, pictures
from fedcli.datasets.array_file import read_member
from fedcli.datasets.base import Indices, Labels, Part
from fedcli.datasets.groups import from_array
from fedcli.datasets.windows import Window, advice, parse_window, windowed
from fedcli.errors import DataError
from fedcli.formats.dtypes import Array

_GROUPS = {"train": ("group", "group_train"), "test": ("group_test",), "all": ("group",)}


@dataclass(frozen=True)
class Reading:
    """How arrays are read: their axes, by ``layout`` or else by the rule, and the window."""

    layout: str | None = None
    window: Window | None = None

    def are_pictures(self, values: Array) -> bool:
        """Return whether an array holds pictures and not other examples."""
        if values.dtype == np.uint8 or self.layout or self.window:
            return values.dtype.kind in "iuf"
        return values.ndim == 4 and values.dtype.kind in "iuf"


def reading_of(layout: str | None, window: Window | str | None) -> Reading:
    """Return how to read arrays. Raises ``UsageError``."""
    window = parse_window(window) if isinstance(window, str) else window
    return Reading(None if layout is None else axes.check_layout(layout), window)


@dataclass(frozen=True)
class Arrays:
    """The arrays of one part, before examples are resized to the shape of the run.

    ``values`` are pictures (N, C, H, W), which the file holds with the axes ``axes``, or other
    examples (N, …). ``labels`` are those of the file: integers, or names of classes.
    """

    path: Path
    name: str
    values: Array
    labels: Array
    groups: tuple[str, ...] | None = None
    axes: str | None = None
    window: Window | None = None

    @classmethod
    def read(
        cls, file: zipfile.ZipFile, path: Path, members: tuple[str, str, str], reading: Reading
    ) -> "Arrays":
        """Read the arrays of a part: its name, and those of its examples and labels."""
        part, x, y = members
        values, labels = read_member(file, path, x), _labels(file, path, y)
        groups = _groups(file, path, part, {name.removesuffix(".npy") for name in file.namelist()})
        if not reading.are_pictures(values):
            return cls(path, x, values, labels, groups)
        found = axes.axes_of(values.shape, reading.layout, f"{path}: {x}")
        values = axes.channels_first(values, found)
        return cls(path, x, values, labels, groups, found, reading.window)

    def __post_init__(self) -> None:
        """Raise ``DataError`` for examples that cannot be trained on."""
        where = f"{self.path}: {self.name}"
        count = self.values.shape[0] if self.values.ndim else 0
        if count != len(self.labels):
            raise DataError(f"{where}: {count} examples, {len(self.labels)} labels")
        if self.groups is not None and len(self.groups) != len(self.labels):
            raise DataError(
                f"{where}: {len(self.labels)} examples, but groups of {len(self.groups)}"
            )
        if self.values.size == 0:
            raise DataError(f"{where}: expected examples, found none")
        found = f"found {self.values.dtype} {list(self.values.shape)}"
        whole = self.values.dtype.kind in "iu" and self.values.ndim in (3, 4)
        if (
            self.axes is None
            and not whole
            and (self.values.dtype.kind != "f" or self.values.ndim < 2)
        ):
            raise DataError(
                f"{where}: expected uint8 pictures or floating-point examples (N, …), {found}"
            )
        if self.values.dtype.kind in "iu" and self.dtype != np.uint8:
            low, high = int(self.values.min()), int(self.values.max())
            raise DataError(
                f"{where}: expected uint8 pictures, or a window of values, {found} with values"
                f" from {low} to {high}",
                hint=advice(low, high),
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of examples in a run: uint8 for pictures with 256 levels, else float32."""
        levels = self.values.dtype == np.uint8 or self.window is not None
        return np.dtype(np.uint8 if levels else "<f4")

    @property
    def is_pictures(self) -> bool:
        """Whether the examples are pictures of 256 levels, which can be resized."""
        return self.dtype == np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, (C, H, W) for pictures."""
        return self.values.shape[1:]

    def remarks(self) -> Iterator[str]:
        """Say how the examples are read where that is not obvious."""
        if self.axes is not None:
            yield f"{self.name} is read as {axes.spelled(self.axes)}"
        if self.axes is not None and not self.is_pictures:
            low, high = float(self.values.min()), float(self.values.max())
            if low < 0 or high > 1:
                yield (
                    f"{self.name} has values from {low:g} to {high:g}, which are used as they are;"
                    f" if they are pixels, {advice(low, high)}"
                )

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
        try:
            values = self.values[indices]
            if self.window is not None:
                values = windowed(values, self.window)
            if values.shape[1:] == shape:
                return values
            return np.stack([_fitted(picture, shape) for picture in values])
        except ValueError as error:
            raise DataError(f"{self.name}: {error}", path=self.path) from None


def _fitted(picture: Array, shape: tuple[int, ...]) -> Array:
    """Convert one uint8 picture (C, H, W) to another shape."""
    channels = picture.shape[0]
    if channels in (1, 3) and shape[0] in (1, 3):
        image = Image.fromarray(picture[0] if channels == 1 else picture.transpose(1, 2, 0).copy())
        return pictures.as_array(image, shape)
    planes = [pictures.as_array(Image.fromarray(plane), (1, *shape[1:])) for plane in picture]
    return np.concatenate(planes)


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
