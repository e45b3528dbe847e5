"""Labels from a CSV file beside the pictures, as competitions and archives hand them out.

A row names a picture, with or without its extension and folder, and its label: the name of a class,
or one column for each class with a single 1 (*one-hot*).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from fedcli.datasets.csv_table import CsvTable, raise_all, read_table
from fedcli.datasets.folder_tree import FolderTree, LeftOut, some
from fedcli.errors import DataError, NotReadyError, UsageError

_IMAGE_COLUMNS = (
    "image", "image_id", "image_name", "image_path", "file", "path", "filename", "file_name",
    "filepath", "img", "img_name", "image index", "isic_id", "id_code", "id", "name",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "dx", "diagnosis", "category", "target", "level",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CsvLabels:
    """Where labels are: a file, and its columns for pictures, labels (several: one-hot), groups."""

    file: Path
    image_column: str | None = None
    label_columns: tuple[str, ...] = ()
    group_column: str | None = None


@dataclass(frozen=True)
class LabelledPictures:
    """The pictures that rows name, sorted by path: their labels and groups as text.

    ``missing`` are rows without a picture, ``unnamed`` pictures without a row.
    """

    path: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    missing: tuple[str, ...]
    unnamed: tuple[LeftOut, ...]
    remark: str


def read_csv_labels(tree: FolderTree, where: CsvLabels, *, skip_missing: bool) -> LabelledPictures:
    """Match the rows of a CSV file with the pictures of a folder.

    Raises ``NotReadyError`` without the file, ``UsageError`` for columns that it does not have,
    ``DataError`` that names all bad lines, and with them rows without a picture, unless
    ``skip_missing``.
    """
    table = read_table(_find(where.file, tree.root.path))
    images = _image_column(table, where.image_column)
    columns = _label_columns(table, where.label_columns, images)
    group = None if where.group_column is None else table.column(where.group_column, _GROUP)
    labels = _labels(table, columns)
    found, missing = _matched(table, images, _places(tree))
    if missing and not skip_missing:
        raise DataError(
            f"{len(missing)} of {len(table.rows)} rows name a picture that is not in"
            f" {tree.root.path}: {some(missing, 10)}",
            hint="name the folder that holds them all, or leave them out with --skip-bad",
            path=table.path,
        )
    order = sorted(found)
    groups = None if group is None else tuple(_groups(table, group)[found[name]] for name in order)
    unnamed = (LeftOut(name, "no row names it") for name in tree.root.below() if name not in found)
    return LabelledPictures(
        table.path,
        tuple(order),
        tuple(labels[found[name]] for name in order),
        groups,
        tuple(missing),
        tuple(unnamed),
        f"labels are those of {table.path}, column {' '.join(table.header[at] for at in columns)}",
    )


_GROUP = "--group-column"


def _find(file: Path, root: Path) -> Path:
    for path in (file.expanduser(), root / file):
        if path.is_file():
            return path
    raise NotReadyError(f"--labels-csv {file}: no such file, here or in {root}")


def _image_column(table: CsvTable, given: str | None) -> int:
    if given is not None:
        return table.column(given, "--image-column")
    found = table.usual_column(_IMAGE_COLUMNS)
    if found is None:
        raise UsageError(
            f"--image-column: {table.path}: say which column names the picture:"
            f" {', '.join(table.header)}"
        )
    return found


def _label_columns(table: CsvTable, given: Sequence[str], images: int) -> list[int]:
    """Return the column of the labels, or the one-hot columns."""
    if given:
        return [table.column(name, "--label-column") for name in given]
    found = table.usual_column(_LABEL_COLUMNS)
    if found is not None and found != images:
        return [found]
    others = [at for at in range(len(table.header)) if at != images]
    if len(others) > 1 and all(_ones(row, others) == 1 for _, row in table.rows):
        return others
    raise UsageError(
        f"--label-column: {table.path}: say which column has the labels, or which columns are"
        f" one-hot: {', '.join(table.header)}"
    )


def _ones(row: Sequence[str], columns: Sequence[int]) -> int:
    """Return how many cells are 1, or -1 if there are others than 0 and 1."""
    cells = [row[at].removesuffix(".0") for at in columns]
    return cells.count("1") if set(cells) <= {"0", "1"} else -1


def _labels(table: CsvTable, columns: Sequence[int]) -> list[str]:
    """Return the label of each row. Raises ``DataError`` that names all lines without one."""
    if len(columns) == 1:
        labels = [row[columns[0]] for _, row in table.rows]
        raise_all(table, _empty(table, columns[0], "label"))
        return labels
    wrong = [f"line {line}" for line, row in table.rows if _ones(row, columns) != 1]
    raise_all(table, wrong, "expected one 1, and 0 in the other columns of classes: ")
    return [
        next(table.header[at] for at in columns if row[at].removesuffix(".0") == "1")
        for _, row in table.rows
    ]


def _groups(table: CsvTable, column: int) -> list[str]:
    raise_all(table, _empty(table, column, "group"))
    return [row[column] for _, row in table.rows]


def _empty(table: CsvTable, column: int, what: str) -> list[str]:
    return [f"line {line}: no {what}" for line, row in table.rows if not row[column]]


def _places(tree: FolderTree) -> Mapping[str, list[str]]:
    """Map what a row may call a picture to the pictures: paths, names, both without extension."""
    places = defaultdict[str, list[str]](list)
    for name in tree.root.below():
        path = PurePosixPath(name)
        for called in {name, str(path.with_suffix("")), path.name, path.stem}:
            places[called].append(name)
    return places


def _matched(
    table: CsvTable, column: int, places: Mapping[str, list[str]]
) -> tuple[dict[str, int], list[str]]:
    """Return the row of each picture, and the pictures of rows that are not there.

    Raises ``DataError`` for rows that name two pictures, and pictures that two rows name.
    """
    found: dict[str, int] = {}
    missing, faults = [], []
    for number, (line, row) in enumerate(table.rows):
        named = PureWindowsPath(row[column]).as_posix()
        matches = _exact(named, places)
        if not matches:
            missing.append(row[column] or f"(line {line}: no name)")
        elif len(matches) > 1:
            faults.append(f"line {line}: {row[column]} may be {some(matches)}")
        elif matches[0] in found:
            before = table.rows[found[matches[0]]][0]
            faults.append(f"line {line}: repeats {row[column]} of line {before}")
        else:
            found[matches[0]] = number
    raise_all(table, faults)
    return found, missing


def _exact(named: str, places: Mapping[str, list[str]]) -> list[str]:
    """Return the picture of this very path, or those that the name may mean."""
    matches = places.get(named) or places.get(PurePosixPath(named).name, [])
    return [named] if named in matches else matches
