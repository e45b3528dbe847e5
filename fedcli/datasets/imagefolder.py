"""``imagefolder:PATH``: a folder for each class, in ``train/`` and ``test/`` or alone.

With ``--group folder``, each group has its own folder of class folders.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from fedcli.cores import available_cores
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
from fedcli.errors import DataError, NotReadyError
from fedcli.options import Option
from fedcli.progress import Progress
from fedcli.storage.atomic import storage_errors

_SMALL_FILE = 20_000  # bytes


@dataclass(frozen=True)
class Listing:
    """The pictures in a folder: relative paths, labels, and sizes in bytes."""

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels
    sizes: tuple[int, ...]

    def part(self, shape: tuple[int, ...], threads: int | None = None) -> Part:
        """Return the part that decodes these pictures to ``shape``."""
        # Pillow decodes without the GIL, but with small files threads mostly wait for it.
        small = sum(self.sizes) < _SMALL_FILE * len(self.sizes)
        threads = 1 if small else threads or available_cores()
        return Part(self.labels, partial(_read, self.root, self.names, shape, threads))


def _read(
    root: Path, names: Sequence[str], shape: tuple[int, ...], threads: int, indices: Indices
) -> pictures.Picture:
    return pictures.stack(
        lambda number: pictures.load(root / names[indices[number]], shape),
        len(indices),
        shape,
        threads=threads,
    )


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the visible entries of a folder, sorted, and whether each is a folder."""
    with storage_errors("read", folder), os.scandir(folder) as entries:
        return sorted((e.name, _is_folder(e)) for e in entries if not e.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # For a broken link, DirEntry raises but Path returns False.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry).is_dir())


def _files(folder: Path, prefix: str) -> Iterator[str]:
    for name, is_folder in _entries(folder):
        if is_folder:
            yield from _files(folder / name, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def _size(path: Path) -> int:
    with storage_errors("read", path):
        return path.stat().st_size


def class_folders(root: Path) -> list[str]:
    """Return the names of the class folders, sorted.

    Raises ``NotReadyError``, ``DataError`` and ``StorageError``.
    """
    with storage_errors("read", root):
        if not root.exists():
            raise NotReadyError("no such folder", path=root)
        if not root.is_dir():
            raise DataError("expected a folder of class folders, found a file", path=root)
    names = [name for name, is_folder in _entries(root) if is_folder]
    if not names:
        raise DataError("expected one folder for each class, found none", path=root)
    return names


def list_folder(root: Path, classes: Sequence[str], progress: Progress) -> Listing:
    """List the pictures in a folder of class folders; ``classes`` defines the labels.

    Files in other formats are skipped and reported. Raises ``NotReadyError`` without the folder,
    ``DataError`` for a folder that is not a known class or has no pictures, and ``StorageError``
    for unreadable entries, such as broken links.
    """
    known = pictures.extensions()
    found: list[tuple[str, int, int]] = []
    others = []
    for name in class_folders(root):
        if name not in classes:
            raise DataError(
                f"no class {name!r}; the classes are: {', '.join(classes[:20])}", path=root / name
            )
        before = len(found)
        for file in _files(root / name, f"{name}/"):
            if Path(file).suffix.lower() in known:
                found.append((file, classes.index(name), _size(root / file)))
            else:
                others.append(file)
        if len(found) == before:
            raise DataError("expected pictures, found none", path=root / name)
    if others:
        progress.say(f"skipped {len(others)} files that are not pictures, such as {others[0]}")
    files, labels, sizes = zip(*found, strict=True)
    return Listing(root, tuple(classes), files, np.array(labels, np.int64), sizes)


def _in_groups(root: Path, classes: Sequence[str]) -> bool:
    """Return whether the folders in ``root`` hold class folders."""
    below = (entry for name in class_folders(root) for entry in _entries(root / name))
    return any(is_folder and name in classes for name, is_folder in below)


def _classes_in_groups(root: Path) -> list[str]:
    try:
        return sorted(
            {name for group in class_folders(root) for name in class_folders(root / group)}
        )
    except DataError as error:
        hint = f"with --group {groups.FOLDER}, each group's folder holds one folder for each class"
        raise error.amended(hint=hint) from None


def _list_groups(root: Path, classes: Sequence[str], progress: Progress) -> Listing:
    """List the pictures in a folder of group folders of class folders."""
    found = {name: list_folder(root / name, classes, progress) for name in class_folders(root)}
    return Listing(
        root,
        tuple(classes),
        tuple(f"{group}/{name}" for group, one in found.items() for name in one.names),
        np.concatenate([one.labels for one in found.values()]),
        tuple(size for one in found.values() for size in one.sizes),
    )


def _digest(listings: Sequence[Listing], progress: Progress) -> str:
    """Hash the names and contents of all pictures."""
    lines = hashlib.sha256()
    for listing in listings:
        paths = [listing.root / name for name in listing.names]
        for name, digest in zip(listing.names, file_digests(paths, progress), strict=True):
            lines.update(os.fsencode(f"{name}\0{digest}\n"))
        lines.update(b"\n")
    return lines.hexdigest()


def _shape(first: Path, options: DataOptions) -> tuple[int, int, int]:
    if options.image_size is not None:
        return (3, options.image_size, options.image_size)
    height, width = pictures.default_size(first)
    options.progress.say(
        f"pictures become {width}×{height}, like the first one; --image-size sets another size"
    )
    return (3, height, width)


def load(
    argument: str,
    options: DataOptions,
    *,
    group: Annotated[
        str | None,
        Option(
            "Where the pictures come from, for `--scheme natural`: `folder`, or a column of the CSV"
            " file beside them.",
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
    halves = _halves(root)
    listings, grouping = _read_listings(root, halves, group, options.progress)
    first = listings[0]
    shape = _shape(first.root / first.names[0], options)
    identity = {
        "sha256": _digest(listings, options.progress),
        "examples": [len(one.names) for one in listings],
        **grouping.identity(),
    }
    parts = [
        replace(listing.part(shape), groups=numbers)
        for listing, numbers in zip(listings, grouping.parts, strict=True)
    ]
    if len(parts) == 1:
        train, test, split = split_off_test(parts[0], options)
        identity |= split
    else:
        train, test = parts
    return Dataset(
        "imagefolder", first.classes, shape, np.dtype("u1"), train, test, identity, grouping.names
    )


def _halves(root: Path) -> list[str]:
    """Return ``["train", "test"]`` if the folder has both, ``[""]`` if it has neither."""
    folders = class_folders(root)
    halves: list[str] = [name for name in ("train", "test") if name in folders]
    if len(halves) == 1:
        missing = "test" if halves == ["train"] else "train"
        raise DataError(
            f"has {halves[0]}/ but no {missing}/",
            hint=f"add {missing}/, or name the folder that holds the class folders",
            path=root,
        )
    return halves or [""]


def _read_listings(
    root: Path, halves: Sequence[str], group: str | None, progress: Progress
) -> tuple[list[Listing], groups.Grouping]:
    folders = [root / half for half in halves]
    if group == groups.FOLDER:
        return _read_nested(folders, progress)
    classes = class_folders(folders[0])
    listings = [list_folder(folder, classes, progress) for folder in folders]
    if group is None:
        return listings, groups.Grouping((), (None,) * len(listings))
    names = {half: one.names for half, one in zip(halves, listings, strict=True)}
    return listings, groups.from_csv(root, group, names)


def _read_nested(
    folders: Sequence[Path], progress: Progress
) -> tuple[list[Listing], groups.Grouping]:
    """List folders of groups; the test folder may also hold class folders directly."""
    classes = _classes_in_groups(folders[0])
    listings: list[Listing] = []
    names: list[groups.Names | None] = []
    for folder in folders:
        if folder is folders[0] or _in_groups(folder, classes):
            listings.append(_list_groups(folder, classes, progress))
            names.append(groups.first_folders(listings[-1].names))
        else:
            listings.append(list_folder(folder, classes, progress))
            names.append(None)
    where = f"--group {groups.FOLDER}: {folders[0]}"
    return listings, groups.check_several(groups.numbered(names), where)
