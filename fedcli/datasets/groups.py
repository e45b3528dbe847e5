"""The real origins of examples, such as hospitals, from folders or a column of a CSV file."""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from fedcli.datasets.base import Groups
from fedcli.errors import DataError, NotReadyError, UsageError
from fedcli.formats.dtypes import Array
from fedcli.run.info import client_order
from fedcli.storage.atomic import canonical_json, storage_errors

FOLDER = "folder"  # the value of --group for which the folders are the groups
_FILE_COLUMNS = ("file", "path", "filename", "file_name")

Names = Sequence[str]
_Place = tuple[str, int]  # a picture's part, and its index in the part


@dataclass(frozen=True)
class Grouping:
    """The groups of each part of a data set, in the order of its examples.

    ``names`` are the groups of the training part: numbers by value, then names. ``parts`` holds an
    index into them for each example, -1 for any other group, or None for a part without groups.
    """

    names: tuple[str, ...]
    parts: tuple[Groups | None, ...]

    def identity(self) -> dict[str, Any]:
        """Return the groups' contribution to the identity of a data set."""
        numbers = [None if part is None else part.tolist() for part in self.parts]
        content = canonical_json([self.names, numbers])
        return {"groups": hashlib.sha256(content).hexdigest()} if self.names else {}


def numbered(parts: Sequence[Names | None]) -> Grouping:
    """Number the groups that examples name; the first part is the training part.

    If its groups are unknown, those of the test part are ignored.
    """
    if parts[0] is None:
        return Grouping((), (None,) * len(parts))
    names = tuple(client_order(parts[0]))
    numbers = {name: number for number, name in enumerate(names)}
    return Grouping(
        names,
        tuple(
            None if part is None else np.array([numbers.get(one, -1) for one in part], np.int64)
            for part in parts
        ),
    )


def check_several(grouping: Grouping, where: str) -> Grouping:
    """Return the grouping. Raises ``DataError`` if all examples belong to one group."""
    if len(grouping.names) < 2:
        raise DataError(
            f"{where}: expected at least two groups, found one: {grouping.names[0]!r}",
            hint="omit --group: there is nothing to distinguish",
        )
    return grouping


def first_folders(names: Names) -> list[str]:
    """Return the groups of pictures named ``<group>/<class>/…``."""
    return [name.partition("/")[0] for name in names]


def from_array(values: Array, where: str) -> tuple[str, ...]:
    """Return the groups in an array (N,) of names or integers. Raises ``DataError``."""
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: expected a name or an integer for each example, (N) or (N,1), found"
            f" {values.dtype} {list(values.shape)}"
        )
    groups = tuple(str(group).strip() for group in values)
    if "" in groups:
        raise DataError(f"{where}: the group of example {groups.index('')} is empty")
    return groups


def from_csv(root: Path, column: str, parts: Mapping[str, Names]) -> Grouping:
    """Read the groups of pictures from a column of the CSV file in ``root``.

    ``parts`` has the names of the pictures in each folder: ``{"": …}`` for those in ``root``, or
    ``train`` and ``test``, where only ``test`` may have no rows. A row's column ``file``
    (``path``, ``filename``, ``file_name``) names its picture relative to ``root`` or ``train/``.

    Raises ``NotReadyError`` without such a file, ``UsageError`` for an unknown column,
    ``DataError`` that names a bad line, and ``StorageError``.
    """
    path = _find(root)
    places = _places(parts)
    found: dict[_Place, tuple[int, str]] = {}
    for line, picture, group in _rows(path, column):
        place = places.get(_normal(picture))
        if place is None:
            _check_exists(root, picture, f"{path}: line {line}")
        elif place in found:
            raise DataError(f"line {line}: repeats {picture} of line {found[place][0]}", path=path)
        else:
            found[place] = line, group
    grouping = numbered([_of_part(path, part, names, found) for part, names in parts.items()])
    return check_several(grouping, f"--group {column}: {path}")


def _of_part(
    path: Path, part: str, names: Names, found: Mapping[_Place, tuple[int, str]]
) -> list[str] | None:
    """Return the groups of a part, or None for a test part without rows."""
    missing = [name for number, name in enumerate(names) if (part, number) not in found]
    if part == "test" and len(missing) == len(names):
        return None
    if missing:
        first = f"{part}/{missing[0]}" if part else missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"no row for {first}{more}", path=path)
    return [found[part, number][1] for number in range(len(names))]


def _find(root: Path) -> Path:
    with storage_errors("read", root):
        found = sorted(path for path in root.glob("*.csv") if not path.name.startswith("."))
    named = [path for path in found if path.name == "metadata.csv"] or found
    if not named:
        raise NotReadyError(
            "--group: expected metadata.csv, or one .csv file, found none",
            hint=f"--group {FOLDER} uses the folders as groups",
            path=root,
        )
    if len(named) > 1:
        files = ", ".join(path.name for path in named[:5])
        raise DataError(
            f"--group: expected one .csv file, or metadata.csv, found {files}", path=root
        )
    return named[0]


def _normal(name: str) -> str:
    """Return a picture's path with / as the separator, whatever system wrote it."""
    return PureWindowsPath(name).as_posix()


def _places(parts: Mapping[str, Names]) -> dict[str, _Place]:
    """Map every path that a row may use to its picture."""
    places = {}
    for part, names in parts.items():
        for number, name in enumerate(names):
            places[_normal(f"{part}/{name}" if part else name)] = (part, number)
    for number, name in enumerate(parts.get("train", ())):
        places.setdefault(_normal(name), ("train", number))
    return places


def _rows(path: Path, column: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, picture and group of each row of a CSV file."""
    try:
        with storage_errors("read", path), path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            separator = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            where = f"{path}: line {reader.line_num}"
            picture_at, group_at = _file_column(header, where), _column(header, column, where)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield _row(row, len(header), picture_at, group_at, path, reader.line_num)
    except UnicodeDecodeError as error:
        raise DataError(f"not a CSV file in UTF-8: {error.reason}", path=path) from None
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: not CSV: {error}", path=path) from None


def _row(
    row: list[str], width: int, picture_at: int, group_at: int, path: Path, line: int
) -> tuple[int, str, str]:
    if len(row) != width:
        raise DataError(f"line {line}: expected {width} columns, found {len(row)}", path=path)
    picture, group = row[picture_at].strip(), row[group_at].strip()
    if not picture or not group:
        what = "group" if picture else "picture"
        raise DataError(f"line {line}: expected the name of a {what}, found none", path=path)
    return line, picture, group


def _file_column(header: list[str], where: str) -> int:
    lowered = [name.lower() for name in header]
    for name in _FILE_COLUMNS:
        if name in lowered:
            return lowered.index(name)
    raise DataError(
        f"{where}: expected a column {', '.join(_FILE_COLUMNS[:-1])} or {_FILE_COLUMNS[-1]} that"
        f" names the picture, found: {', '.join(header)}"
    )


def _column(header: list[str], column: str, where: str) -> int:
    if header.count(column) != 1:
        found = "two columns" if column in header else "no column"
        raise UsageError(
            f"--group {column}: {where}: {found} of that name; the columns are: {', '.join(header)}"
        )
    return header.index(column)


def _check_exists(root: Path, picture: str, where: str) -> None:
    """Refuse a row whose file does not exist; files that the data set does not use are fine."""
    name = _normal(picture)
    if not any((folder / name).is_file() for folder in (root, root / "train")):
        raise DataError(f"{where}: {picture}: no such picture in {root}")
