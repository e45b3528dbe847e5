"""``imagefolder:PATH``: a folder for each class, in ``train/`` and ``test/`` or alone."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcli.cores import available_cores
from fedcli.datasets import pictures
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
from fedcli.files import storage_errors
from fedcli.progress import Progress

_SMALL_FILE = 20_000  # bytes


@dataclass(frozen=True)
class Listing:
    """The pictures below a folder: paths relative to it, their labels and sizes in bytes."""

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels
    sizes: tuple[int, ...]

    def part(self, shape: tuple[int, ...]) -> Part:
        """Return the part that decodes these pictures to ``shape``."""
        # Pillow decodes without the GIL; for small files the threads would only wait for it
        small = sum(self.sizes) < _SMALL_FILE * len(self.sizes)
        threads = 1 if small else available_cores()

        def read(indices: Indices) -> pictures.Picture:
            return pictures.stack(
                lambda i: pictures.load(self.root / self.names[indices[i]], shape),
                len(indices),
                shape,
                threads=threads,
            )

        return Part(self.labels, read)


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """What a folder holds, sorted, and whether it is a folder too; hidden files are left out."""
    with storage_errors("read", folder), os.scandir(folder) as entries:
        return sorted((e.name, _is_folder(e)) for e in entries if not e.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # of a link that leads nowhere, Path says no where DirEntry raises
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
    """The names of the class folders, sorted.

    Raises ``NotReadyError``, ``DataError`` and ``StorageError``.
    """
    with storage_errors("read", root):
        if not root.exists():
            raise NotReadyError(f"{root}: no such folder")
        if not root.is_dir():
            raise DataError(f"{root}: expected a folder of class folders, found a file")
    names = [name for name, is_folder in _entries(root) if is_folder]
    if not names:
        raise DataError(f"{root}: expected one folder for each class, found none")
    return names


def list_folder(root: Path, classes: Sequence[str], progress: Progress) -> Listing:
    """List the pictures of a folder of class folders; ``classes`` says which label is which.

    Files that are not of a picture format are passed over, and said. Raises ``NotReadyError``
    without the folder, ``DataError`` for a folder that is no known class or has no picture, and
    ``StorageError`` for what cannot be read, such as a link that leads nowhere.
    """
    known = pictures.extensions()
    found: list[tuple[str, int, int]] = []
    others = []
    for name in class_folders(root):
        if name not in classes:
            raise DataError(
                f"{root / name}: no class {name!r}; the classes are: {', '.join(classes[:20])}"
            )
        before = len(found)
        for file in _files(root / name, f"{name}/"):
            if Path(file).suffix.lower() in known:
                found.append((file, classes.index(name), _size(root / file)))
            else:
                others.append(file)
        if len(found) == before:
            raise DataError(f"{root / name}: expected pictures, found none")
    if others:
        progress.say(f"passed over {len(others)} files that are no pictures, such as {others[0]}")
    files, labels, sizes = zip(*found, strict=True)
    return Listing(root, tuple(classes), files, np.array(labels, np.int64), sizes)


def _digest(listings: Sequence[Listing], progress: Progress) -> str:
    """Hash the names and the contents of all pictures."""
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
        f"pictures become {width}×{height}, after the first one; --image-size sets another size"
    )
    return (3, height, width)


def load(argument: str, options: DataOptions) -> Dataset:
    """Read the listing of ``imagefolder:PATH``; pictures are decoded to RGB when asked for.

    PATH holds ``train/`` and ``test/``, or class folders from which a test part is split.
    Raises ``NotReadyError`` without the folder, ``DataError`` for what is wrong in it, and
    ``StorageError`` for what cannot be read.
    """
    root = Path(argument).expanduser()
    folders = class_folders(root)
    halves = [name for name in ("train", "test") if name in folders]
    if len(halves) == 1:
        missing = "test" if halves == ["train"] else "train"
        raise DataError(
            f"{root}: has {halves[0]}/ but no {missing}/",
            hint=f"add {missing}/, or name the folder that holds the class folders",
        )
    if halves:
        classes = class_folders(root / "train")
        listings = [list_folder(root / half, classes, options.progress) for half in halves]
    else:
        listings = [list_folder(root, folders, options.progress)]
    shape = _shape(listings[0].root / listings[0].names[0], options)
    identity = {
        "sha256": _digest(listings, options.progress),
        "examples": [len(one.names) for one in listings],
    }
    parts = [listing.part(shape) for listing in listings]
    if len(parts) == 1:
        train, test, split = split_off_test(parts[0], options)
        identity |= split
    else:
        train, test = parts
    return Dataset("imagefolder", listings[0].classes, shape, np.dtype("u1"), train, test, identity)
