"""The pictures of a part of a folder: where they are, their labels, and those that are bad."""

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fedcli.datasets import pictures
from fedcli.datasets.base import DataOptions, Indices, Labels, Part, file_digests
from fedcli.datasets.folder_tree import some
from fedcli.datasets.folders import PartFolder
from fedcli.datasets.windows import RangeError, Window, advice
from fedcli.errors import BadFilesError, DataError
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
        sizes_of(base, names),
        tuple(group for _, _, group in found) if part.groups else None,
    )


def sizes_of(base: Path, names: Sequence[str]) -> tuple[int, ...]:
    """Return the sizes of files in bytes. Raises ``DataError`` that names all broken links."""
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


def digest_of(listings: Sequence[Listing], progress: Progress) -> str:
    """Hash the names and contents of all pictures."""
    lines = hashlib.sha256()
    for listing in listings:
        for name, digest in zip(listing.names, file_digests(listing.paths, progress), strict=True):
            lines.update(os.fsencode(f"{name}\0{digest}\n"))
        lines.update(b"\n")
    return lines.hexdigest()


def labels_digest(listings: Sequence[Listing]) -> str:
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
