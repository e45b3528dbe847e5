"""``imagefolder:PATH``: a folder for each class, in ``train/`` and ``test/`` or alone.

With ``--group folder``, each group has its own folder of class folders; with ``--labels-csv``, a
table has the labels of pictures in any folders. ``folders`` decides how a folder is understood.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from fedcli.datasets import groups, pictures
from fedcli.datasets.base import (
    DataOptions,
    Dataset,
    Indices,
    Labels,
    Part,
    file_digests,
    split_off_test,
)
from fedcli.datasets.csv_labels import CsvLabels, read_csv_labels
from fedcli.datasets.folder_tree import read_tree, some
from fedcli.datasets.folders import FOLDER, NO_GROUPS, PartFolder, Understanding, understand
from fedcli.datasets.labels import Labelling, from_names
from fedcli.datasets.windows import RangeError, Window, advice, parse_window
from fedcli.errors import BadFilesError, DataError, UsageError
from fedcli.options import Option
from fedcli.progress import Progress
from fedcli.storage.atomic import storage_errors
from fedcli.system import available_cores

_SMALL_FILE = 20_000  # bytes
_SKIP = "repair or remove them, or leave them out with --skip-bad"


@dataclass(frozen=True)
class Listing:
    """The pictures in a folder: relative paths, labels, sizes in bytes, groups if known, window."""

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels
    sizes: tuple[int, ...]
    groups: tuple[str, ...] | None = None
    window: Window | None = None

    @property
    def paths(self) -> list[Path]:
        """The path of each picture."""
        return [self.root / name for name in self.names]

    def part(
        self,
        shape: tuple[int, ...],
        threads: int | None = None,
        beside: Sequence["Listing"] = (),
        skipped: tuple[str, ...] = (),
    ) -> Part:
        """Return the part that decodes these pictures to ``shape``.

        Errors name all bad files of these pictures and of those ``beside``.
        """
        threads = self.threads(threads)
        read = partial(_read, self, shape, threads, beside or (self,))
        return Part(self.labels, read, skipped=skipped)

    def threads(self, most: int | None = None) -> int:
        """Return how many threads decode these pictures fastest, at most ``most``."""
        # Pillow decodes without the GIL, but with small files threads mostly wait for it.
        small = sum(self.sizes) < _SMALL_FILE * len(self.sizes)
        return 1 if small else most or available_cores()

    def without(self, names: frozenset[str]) -> "Listing":
        """Return the listing without the pictures of these paths."""
        kept = [at for at, name in enumerate(self.names) if str(self.root / name) not in names]
        return replace(
            self,
            names=tuple(self.names[at] for at in kept),
            labels=self.labels[kept],
            sizes=tuple(self.sizes[at] for at in kept),
            groups=None if self.groups is None else tuple(self.groups[at] for at in kept),
        )


def _read(
    listing: Listing,
    shape: tuple[int, ...],
    threads: int,
    beside: Sequence[Listing],
    indices: Indices,
) -> pictures.Picture:
    try:
        return pictures.stack(
            lambda number: pictures.load(
                listing.root / listing.names[indices[number]], shape, listing.window
            ),
            len(indices),
            shape,
            threads=threads,
        )
    except DataError as error:
        bad = bad_files(beside, shape)
        if not bad:
            raise
        total = sum(len(one.names) for one in beside)
        raise BadFilesError.together(bad, total, hint=remedy(bad)) from error


def bad_files(listings: Sequence[Listing], shape: tuple[int, ...]) -> list[DataError]:
    """Decode all pictures, and return the errors of those that cannot be decoded."""
    found: list[DataError] = []
    for listing in listings:
        fault = partial(_fault, shape, listing.window)
        errors = pictures.each(fault, listing.paths, threads=listing.threads())
        found += [error for error in errors if error is not None]
    return found


def remedy(bad: Sequence[DataError]) -> str:
    """Return what to do about files that cannot be decoded."""
    found = unknown_range(bad)
    return _SKIP if found is None else f"{advice(*found)}; or {_SKIP}"


def unknown_range(bad: Sequence[DataError]) -> tuple[float, float] | None:
    """Return the range of values of all files that need a window, if any does."""
    causes = [error.__cause__ for error in bad]
    ranges = [(cause.low, cause.high) for cause in causes if isinstance(cause, RangeError)]
    if not ranges:
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _fault(shape: tuple[int, ...], window: Window | None, path: Path) -> DataError | None:
    try:
        pictures.load(path, shape, window)
    except DataError as error:
        return error
    return None


def without_bad(
    listings: Sequence[Listing], shape: tuple[int, ...], progress: Progress
) -> tuple[list[Listing], tuple[str, ...]]:
    """Return the listings without the pictures that cannot be decoded, and those by path.

    Says which ones these are. Raises ``BadFilesError`` if no picture is left.
    """
    bad = bad_files(listings, shape)
    total = sum(len(one.names) for one in listings)
    if len(bad) == total:
        found = unknown_range(bad)
        hint = "no picture would be left" if found is None else advice(*found)
        raise BadFilesError.together(bad, total, hint=hint)
    for error in bad:
        progress.say(f"left out: {error.message}")
    names = frozenset(str(error.path) for error in bad)
    return [one.without(names) for one in listings], tuple(sorted(names))


def listed(root: Path, part: PartFolder, classes: Sequence[str]) -> Listing:
    """List the pictures of a part. Raises ``DataError`` that names broken links."""
    base = part.folder.path
    found = [
        (Path(folder.path / name).relative_to(base).as_posix(), classes.index(label), group)
        for (label, folder), group in zip(
            part.classes, part.groups or [""] * len(part.classes), strict=True
        )
        for name in folder.below()
    ]
    names = tuple(name for name, _, _ in found)
    return Listing(
        base,
        tuple(classes),
        names,
        np.array([label for _, label, _ in found], np.int64),
        _sizes(base, names),
        tuple(group for _, _, group in found) if part.groups else None,
    )


def _sizes(base: Path, names: Sequence[str]) -> tuple[int, ...]:
    sizes = [_size(base / name) for name in names]
    if broken := [name for name, size in zip(names, sizes, strict=True) if size is None]:
        raise DataError(
            f"cannot read links to files that are missing: {some(broken)}",
            hint="bring the files, or remove the links",
            path=base,
        )
    return tuple(size for size in sizes if size is not None)


def _size(path: Path) -> int | None:
    """Return the size in bytes, None for a link that leads nowhere or to a pipe."""
    with storage_errors("read", path):
        try:
            found = path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise
        return found.st_size if stat.S_ISREG(found.st_mode) else None


def _digest(listings: Sequence[Listing], progress: Progress) -> str:
    """Hash the names and contents of all pictures."""
    lines = hashlib.sha256()
    for listing in listings:
        for name, digest in zip(listing.names, file_digests(listing.paths, progress), strict=True):
            lines.update(os.fsencode(f"{name}\0{digest}\n"))
        lines.update(b"\n")
    return lines.hexdigest()


def _labels_digest(listings: Sequence[Listing]) -> str:
    """Hash labels that come from a table, which the paths of the pictures do not tell."""
    content = hashlib.sha256()
    for listing in listings:
        content.update(listing.labels.astype("<i8").tobytes())
    return content.hexdigest()


def shape_of(listings: Sequence[Listing], options: DataOptions) -> tuple[int, int, int]:
    """Return the shape of an example: of ``--image-size``, or of the first picture.

    Raises ``BadFilesError`` if no picture can be opened.
    """
    if options.image_size is not None:
        return (3, options.image_size, options.image_size)
    height, width = _first_size(listings)
    options.progress.say(
        f"pictures become {width}×{height}, like the first one; --image-size sets another size"
    )
    return (3, height, width)


def _first_size(listings: Sequence[Listing]) -> tuple[int, int]:
    """Return the size of the first picture that can be opened."""
    errors = []
    for path in (path for one in listings for path in one.paths):
        try:
            return pictures.default_size(path)
        except DataError as error:
            errors.append(error)
    raise BadFilesError.together(errors, len(errors), hint="no picture can be opened")


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
    sizes = _sizes(root, names)
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
        columns = tuple(one.strip() for one in (label_column or "").split(",") if one.strip())
        return CsvLabels(
            file=labels_csv,
            image_column=image_column,
            label_columns=columns,
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
        "sha256": _digest(listings, options.progress),
        "examples": [len(one.names) for one in listings],
        **grouping.identity(),
        **({"labels": _labels_digest(listings)} if by_table else {}),
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
