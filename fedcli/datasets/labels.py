"""From the labels that data sets hold to the numbers of classes, 0 … K-1, in one way everywhere.

Integers are the numbers of classes, from 0. If no label is 0, they are counted from 1: the first
class is then named "1". A run has the names of its classes in ``run.json``, so every client reads
labels by name, and none guesses.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcli.errors import DataError
from fedcli.formats.client_ids import natural_key
from fedcli.formats.dtypes import Array
from fedcli.text import brief, is_utf8, printable

Labels = NDArray[np.int64]

MOST_CLASSES = 10_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?")


@dataclass(frozen=True)
class Labelling:
    """The classes of a data set, the label numbers of each part, and a remark if not obvious."""

    classes: tuple[str, ...]
    parts: tuple[Labels, ...]
    remark: str | None = None


def from_numbers(parts: Sequence[Labels], names: Sequence[str] | None, where: str) -> Labelling:
    """Return class numbers from 0 for integer labels; the first part is the training part.

    Raises ``DataError`` for negative labels, for one that no class has, and for numbers most of
    which are no label.
    """
    least = min(int(part.min(initial=0)) for part in parts)
    if least < 0:
        raise DataError(f"{where}: labels start at 0, found {least}")
    lowest, highest = _range_of(parts)
    if highest >= MOST_CLASSES:
        raise DataError(
            f"{where}: label {highest}: labels are class numbers 0, 1, …; a run has at most"
            f" {MOST_CLASSES} classes"
        )
    first = 1 if lowest > 0 and (names is None or highest == len(names)) else 0
    if names is not None and highest - first >= len(names):
        raise DataError(f"{where}: label {highest} is outside the {len(names)} classes")
    number = highest + 1 - first
    present = len(np.unique(np.concatenate(list(parts))))
    if names is None and 2 * present < number:
        raise DataError(
            f"{where}: {present} different labels from {lowest} to {highest}: expected class"
            " numbers 0, 1, …",
            hint="number the classes from 0, or name them with class_names",
        )
    classes = tuple(names) if names else tuple(str(first + index) for index in range(number))
    shifted = tuple(part - first for part in parts)
    return Labelling(classes, shifted, _remark(classes, shifted[0], first) or None)


def _remark(classes: Sequence[str], training: Labels, first: int) -> str:
    """Say where counting starts if not at 0, and which classes have no training example."""
    seen = set(np.unique(training).tolist())
    missing = [name for number, name in enumerate(classes) if number not in seen]
    more = ", …" if len(missing) > 10 else ""
    return "; ".join(
        [
            *([f"labels are counted from 1: label 1 is the class {classes[0]!r}"] if first else []),
            *([f"no training examples of: {', '.join(missing[:10])}{more}"] if missing else []),
        ]
    )


def _range_of(parts: Sequence[Labels]) -> tuple[int, int]:
    everything = [part for part in parts if len(part)]
    return min(int(part.min()) for part in everything), max(int(part.max()) for part in everything)


def from_names(parts: Sequence[Sequence[str]], where: str) -> Labelling:
    """Return class numbers for labels that are names, sorted in natural order.

    Raises ``DataError`` for labels that are numbers but not those of classes.
    """
    parts = [normal(part, where) for part in parts]
    classes = tuple(sorted({name for part in parts for name in part}, key=natural_key))
    if bad := [name for name in classes if not is_utf8(name)]:
        raise DataError(f"{where}: the label {brief(bad[0])} is not text in UTF-8")
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{where}: {len(classes)} different labels; at most {MOST_CLASSES} classes")
    return Labelling(classes, tuple(numbers_of(part, classes, where) for part in parts))


def normal(labels: Sequence[str], where: str) -> list[str]:
    """Return labels as the names of classes: ``1.0`` is ``1`` where all of them are integers.

    Raises ``DataError`` for numbers that are negative or have fractions.
    """
    if all(_INTEGER.fullmatch(label) for label in labels):
        numbers = [int(label.partition(".")[0]) for label in labels]
        if min(numbers, default=0) < 0:
            raise DataError(f"{where}: expected classes, found the label {min(numbers)}")
        return list(map(str, numbers))
    if all(map(_is_number, labels)):
        one = next(label for label in labels if not _INTEGER.fullmatch(label))
        raise DataError(f"{where}: expected classes, found the number {one}")
    return list(labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers_of(labels: Sequence[str], classes: Sequence[str], where: str) -> Labels:
    """Return the numbers of labels that are names. Raises ``DataError`` that lists unknown ones."""
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = list(dict.fromkeys(label for label in labels if label not in numbers))
    if unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise DataError(
            f"{where}: no class {', '.join(repr(printable(one)) for one in unknown[:10])}{more};"
            f" the classes are: {', '.join(classes[:20])}"
        )
    return np.array([numbers[label] for label in labels], np.int64)


def of_run(
    labels: Array, names: Sequence[str] | None, classes: Sequence[str], where: str
) -> Labels:
    """Return the run's class numbers for integer labels of a client's file.

    With ``names``, the file's own, label k is the class that the file calls ``names[k]``. Where the
    names of the run's classes are numbers, label k is the class ``k``; else it is the k-th from 0.
    Raises ``DataError`` for labels and names that the run does not have.
    """
    if names is not None:
        own = from_numbers([np.asarray(labels, np.int64)], names, where)
        return numbers_of(names, classes, where)[own.parts[0]]
    if all(name.isdecimal() for name in classes):
        return numbers_of([str(label) for label in labels.tolist()], classes, where)
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= len(classes):
        raise DataError(
            f"{where}: found labels from {least} to {most}, expected 0 to {len(classes) - 1}: this"
            f" run counts its classes from 0, which is {classes[0]!r}",
            hint="subtract 1, or add an array class_names to the file" if least == 1 else None,
        )
    return np.asarray(labels, np.int64)
