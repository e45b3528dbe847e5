"""The real origins of examples, such as hospitals, from folders or a column of a CSV file."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from fedcli.datasets.base import Groups
from fedcli.datasets.csv_table import CsvTable, read_table
from fedcli.datasets.folders import FOLDER
from fedcli.errors import DataError, NotReadyError
from fedcli.formats.dtypes import Array
from fedcli.run.info import client_order
from fedcli.storage.atomic import canonical_json, storage_errors
from fedcli.text import brief, is_utf8

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


def from_array(values: Array, where: str) -> tuple[str, ...]:
    """Return the groups in an array (N,) of names or integers. Raises ``DataError``."""
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: expected a name or an integer for each example, (N) or (N,1), found"
            f" {values.dtype} {list(values.shape)}"
        )
    groups = tuple(str(group).strip() for group in values)
    if bad := [group for group in groups if not is_utf8(group)]:
        raise DataError(f"{where}: the group {brief(bad[0])} is not text in UTF-8")
    if "" in groups:
        raise DataError(f"{where}: the group of example {groups.index('')} is empty")
    return groups


def from_csv(root: Path, column: str, parts: Mapping[str, Names]) -> list[tuple[str, ...] | None]:
    """Read the groups of pictures from a column of the CSV file in ``root``.

    ``parts`` has the names of the pictures in each folder, relative to ``root``: ``{"": …}`` for
    those in ``root``, or the training part and then the test part, which alone may have no rows and
    then has None for its groups. A row's column ``file`` (``path``, ``filename``, ``file_name``)
    names its picture relative to ``root`` or to the training part.

    Raises ``NotReadyError`` without such a file, ``UsageError`` for an unknown column,
    ``DataError`` that names a bad line, and ``StorageError``.
    """
    path = _find(root)
    places = _places(parts)
    found: dict[_Place, tuple[int, str]] = {}
    for line, picture, group in _rows(read_table(path), column):
        place = places.get(_normal(picture))
        if place is None:
            _check_exists(root, parts, picture, f"{path}: line {line}")
        elif place in found:
            raise DataError(f"line {line}: repeats {picture} of line {found[place][0]}", path=path)
        else:
            found[place] = line, group
    training = next(iter(parts))
    return [
        _of_part(path, part, names, found, optional=part != training)
        for part, names in parts.items()
    ]


def _of_part(
    path: Path, part: str, names: Names, found: Mapping[_Place, tuple[int, str]], *, optional: bool
) -> tuple[str, ...] | None:
    """Return the groups of a part, or None for a test part without rows."""
    missing = [name for number, name in enumerate(names) if (part, number) not in found]
    if optional and len(missing) == len(names):
        return None
    if missing:
        first = f"{part}/{missing[0]}" if part else missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"no row for {first}{more}", path=path)
    return tuple(found[part, number][1] for number in range(len(names)))


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
    training = next(iter(parts))
    for number, name in enumerate(parts[training]):
        places.setdefault(_normal(name), (training, number))
    return places


def _rows(table: CsvTable, column: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, picture and group of each row."""
    pictures, groups = _file_column(table), table.column(column, "--group")
    for line, row in table.rows:
        if not row[pictures] or not row[groups]:
            what = "group" if row[pictures] else "picture"
            raise DataError(
                f"line {line}: expected the name of a {what}, found none", path=table.path
            )
        yield line, row[pictures], row[groups]


def _file_column(table: CsvTable) -> int:
    found = table.usual_column(_FILE_COLUMNS)
    if found is None:
        raise DataError(
            f"line 1: expected a column {', '.join(_FILE_COLUMNS[:-1])} or {_FILE_COLUMNS[-1]} that"
            f" names the picture, found: {', '.join(table.header)}",
            path=table.path,
        )
    return found


def _check_exists(root: Path, folders: Collection[str], picture: str, where: str) -> None:
    """Refuse a row whose file does not exist; files that the data set does not use are fine."""
    name = _normal(picture)
    if not any((folder / name).is_file() for folder in (root, *(root / one for one in folders))):
        raise DataError(f"{where}: {picture}: no such picture in {root}")
