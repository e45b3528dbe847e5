"""``imagefolder:PATH``: a folder for each class, in ``train/`` and ``test/`` or alone.

With ``--group folder``, each group has its own folder of class folders; with ``--labels-csv``, a
table has the labels of pictures in any folders. ``folders`` decides how a folder is understood.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from fedcli.datasets import groups
from fedcli.datasets.base import DataOptions, Dataset, split_off_test
from fedcli.datasets.csv_labels import CsvLabels, read_csv_labels
from fedcli.datasets.folder_tree import read_tree, some
from fedcli.datasets.folders import FOLDER, NO_GROUPS, Understanding, understand
from fedcli.datasets.labels import Labelling, from_names
from fedcli.datasets.listing import (
    Listing,
    digest_of,
    labels_digest,
    listed,
    shape_of,
    sizes_of,
    without_bad,
)
from fedcli.datasets.windows import parse_window
from fedcli.errors import DataError, UsageError
from fedcli.options import Option
from fedcli.text import brief, unlisted


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds: a listing for each part, the training part first, and what was said.

    ``folders`` are the paths of the parts from the root; ``missing`` are pictures that a table of
    labels names and that are not there.
    """

    listings: tuple[Listing, ...]
    understanding: Understanding
    missing: tuple[str, ...] = ()


def read_contents(
    root: Path, group: str | None, table: CsvLabels | None, *, skip_missing: bool
) -> FolderContents:
    """List the pictures of a new data set. Raises what ``understand`` and the table raise."""
    if table is not None and group is not None:
        raise UsageError("--group: with --labels-csv, --group-column names the groups")
    if table is not None:
        return _by_table(root, table, skip_missing=skip_missing)
    found = understand(root, group)
    listings = [listed(root, part, found.classes) for part in found.parts.values()]
    if group not in (None, FOLDER, NO_GROUPS):
        folders = [part.folder.path.relative_to(root).as_posix() for part in found.parts.values()]
        names = {
            "" if folder == "." else folder: one.names
            for folder, one in zip(folders, listings, strict=True)
        }
        columns = groups.from_csv(root, group, names)
        listings = [replace(a, groups=b) for a, b in zip(listings, columns, strict=True)]
    return FolderContents(tuple(listings), found)


def _by_table(root: Path, table: CsvLabels, *, skip_missing: bool) -> FolderContents:
    tree = read_tree(root)
    found = read_csv_labels(tree, table, skip_missing=skip_missing)
    labelling = from_names([found.labels], f"--labels-csv {found.path}")
    if len(labelling.classes) < 2:
        one = "".join(labelling.classes) or "none"
        raise DataError(f"expected at least two classes, found {one}", path=found.path)
    listing = table_listing(root, found.names, labelling, found.groups)
    left_out = (*(one for one in tree.left_out if one.name != table.file.name), *found.unnamed)
    remarks = (found.remark, *missing_remark(found.missing))
    return FolderContents(
        (listing,), Understanding(root, {}, labelling.classes, left_out, remarks), found.missing
    )


def missing_remark(missing: Sequence[str]) -> tuple[str, ...]:
    """Say which pictures of a table are not there, if any."""
    return (f"left out, no such picture: {some(missing)}",) if missing else ()


def table_listing(
    root: Path, names: tuple[str, ...], labelling: Labelling, own: tuple[str, ...] | None
) -> Listing:
    """List the pictures whose labels come from a table."""
    sizes = sizes_of(root, names)
    return Listing(root, labelling.classes, names, labelling.parts[0], sizes, own)


def table_of(
    labels_csv: Path | None,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    layout: str | None = None,
) -> CsvLabels | None:
    """Return where labels are, None if folders are the classes. Raises ``UsageError``."""
    if layout is not None:
        raise UsageError(f"--layout {layout}: is for arrays, not for a folder of pictures")
    if labels_csv is not None:
        return CsvLabels(
            file=labels_csv,
            image_column=image_column,
            label_columns=_columns(label_column or ""),
            group_column=group_column,
        )
    for name, value in (
        ("image-column", image_column),
        ("label-column", label_column),
        ("group-column", group_column),
    ):
        if value is not None:
            raise UsageError(f"--{name} {value}: belongs to --labels-csv")
    return None


def _columns(text: str) -> tuple[str, ...]:
    try:
        return tuple(filter(None, unlisted(text)))
    except ValueError as error:
        message = f"--label-column {brief(text)}: not a list of columns with commas: {error}"
        raise UsageError(message, hint="write a quote on both sides of a name") from None


def load(
    argument: str,
    options: DataOptions,
    *,
    group: Annotated[
        str | None,
        Option(
            "Where the pictures come from, for `--scheme natural`: `folder`, or a column of the CSV"
            " file beside them; `none`: no folder is a group.",
            "NAME",
            unset="unknown",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, Option("Leave out pictures that cannot be decoded, and say which.", flag=True)
    ] = False,
    labels_csv: Annotated[
        Path | None,
        Option(
            "Take the labels of the pictures from a CSV file, not from their folders.",
            "FILE",
            unset="folders are the classes",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        Option(
            "`--labels-csv`: the column that names the picture, with or without its extension.",
            "NAME",
            unset="`image`, `image_id`, `file`, `id` or a similar name",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        Option(
            "`--labels-csv`: the column of the label, or several with commas that are one-hot.",
            "NAMES",
            unset="`label`, `class`, `dx`, `diagnosis` or a similar name, or all if one-hot",
            listed=True,
        ),
    ] = None,
    group_column: Annotated[
        str | None,
        Option(
            "`--labels-csv`: the column of the group, such as the patient or the hospital.",
            "NAME",
            unset="unknown",
        ),
    ] = None,
) -> Dataset:
    """List the pictures of ``imagefolder:PATH``, which are decoded to RGB on demand.

    PATH holds ``train/`` and ``test/``, or class folders from which a test part is split.
    Raises ``NotReadyError`` without the folder, ``DataError`` for bad contents, ``UsageError`` for
    a missing group, and ``StorageError`` for files that cannot be read.
    """
    root = Path(argument).expanduser()
    table = table_of(labels_csv, image_column, label_column, group_column)
    found = read_contents(root, group, table, skip_missing=skip_bad)
    found.understanding.say(options.progress)
    shape = shape_of(found.listings, options)
    window = parse_window(options.window)
    listings: Sequence[Listing] = [replace(one, window=window) for one in found.listings]
    skipped: tuple[str, ...] = ()
    if skip_bad:
        listings, skipped = without_bad(listings, shape, options.progress)
    where = f"--group {group or group_column}: {found.understanding.root}"
    skipped = (*skipped, *found.missing)
    return _dataset(listings, shape, options, skipped, by_table=table is not None, where=where)


def _dataset(
    listings: Sequence[Listing],
    shape: tuple[int, int, int],
    options: DataOptions,
    skipped: tuple[str, ...],
    *,
    by_table: bool,
    where: str,
) -> Dataset:
    grouping = groups.numbered([one.groups for one in listings])
    if grouping.names:
        groups.check_several(grouping, where)
    identity: dict[str, Any] = {
        "sha256": digest_of(listings, options.progress),
        "examples": [len(one.names) for one in listings],
        **grouping.identity(),
        **({"labels": labels_digest(listings)} if by_table else {}),
    }
    parts = [
        replace(one.part(shape, beside=listings), groups=numbers)
        for one, numbers in zip(listings, grouping.parts, strict=True)
    ]
    if len(parts) == 1:
        train, test, split = split_off_test(parts[0], options)
        identity |= split
    else:
        train, test = parts
    return Dataset(
        "imagefolder", listings[0].classes, shape, np.dtype("u1"), train, test, identity,
        grouping.names, skipped,
    )  # fmt: skip
