"""The pictures below a folder, and what is left out: hidden files, other formats, links twice."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcli.datasets import pictures
from fedcli.datasets.file_kinds import DICOM, kind_of, other_file
from fedcli.errors import NotReadyError
from fedcli.storage.atomic import storage_errors
from fedcli.text import printable

# Folders that systems and programs make by themselves, in lower case.
_SERVICE = frozenset(
    {
        "@eadir",
        "@recycle",
        "#recycle",
        "$recycle.bin",
        "__macosx",
        "__pycache__",
        "lost+found",
        "system volume information",
        "thumbnails",
    }
)
_EXAMPLES = 3  # names in a sentence about many

Id = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read: its path from the root, and why."""

    name: str
    why: str


@dataclass
class Folder:
    """A folder with its sub-folders and pictures; ``name`` is its path from the root."""

    path: Path
    name: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    def below(self, prefix: str = "") -> Iterator[str]:
        """Yield the paths of all pictures below, sorted folder by folder."""
        for name in sorted([*self.folders, *self.pictures]):
            if name in self.folders:
                yield from self.folders[name].below(f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}"

    @property
    def filled(self) -> dict[str, "Folder"]:
        """The sub-folders with pictures below, sorted by name."""
        return {name: self.folders[name] for name in sorted(self.folders) if self.folders[name]}

    def __bool__(self) -> bool:
        return bool(self.pictures) or any(self.folders.values())


@dataclass(frozen=True)
class FolderTree:
    """The tree below ``root``, and what it leaves out."""

    root: Folder
    left_out: tuple[LeftOut, ...]


def read_tree(root: Path) -> FolderTree:
    """List all files below a folder once; a folder that links lead to again is read once.

    Raises ``NotReadyError``, ``DataError`` for a file, and ``StorageError`` for what cannot be
    read.
    """
    with storage_errors("read", root):
        if not root.exists():
            raise NotReadyError("no such folder", path=root)
        if not root.is_dir():
            raise other_file(root, "a folder of class folders")
    reader = _TreeReader(root)
    return FolderTree(reader.read(), tuple(sorted(reader.left_out, key=lambda one: one.name)))


class _TreeReader:
    """One walk over a tree: real folders first, then those that links lead to."""

    def __init__(self, root: Path) -> None:
        self.root = Folder(root, "")
        self.left_out: list[LeftOut] = []
        self.seen: dict[Id, str] = {}
        self.links: list[tuple[Folder, str]] = []

    def read(self) -> Folder:
        real = self.root.path.resolve()
        parents = {_id(parent) for parent in real.parents}
        self._read(self.root, _id(real))
        while self.links:
            parent, name = self.links.pop(0)
            self._follow(parent, name, parents)
        return self.root

    def _follow(self, parent: Folder, name: str, parents: set[Id]) -> None:
        own = _id(parent.path / name)
        if own in parents:
            self._leave(parent, name, "a link that leads back to a parent folder")
        elif own in self.seen:
            place = self.seen[own] or "the folder itself"
            self._leave(parent, name, f"a link to {place}, which is read already")
        else:
            self._add(parent, name, own)

    def _add(self, parent: Folder, name: str, own: Id) -> None:
        folder = Folder(parent.path / name, _joined(parent, name))
        parent.folders[name] = folder
        self._read(folder, own)

    def _read(self, folder: Folder, own: Id) -> None:
        self.seen[own] = folder.name
        with storage_errors("read", folder.path), os.scandir(folder.path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            is_link = entry.is_symlink()
            # For a broken link, DirEntry raises but Path returns False.
            is_folder = Path(entry).is_dir() if is_link else entry.is_dir()
            if reason := _why_not(entry.name, is_folder=is_folder):
                self._leave(folder, entry.name, reason)
            elif is_folder and is_link:
                self.links.append((folder, entry.name))
            elif is_folder:
                self._add(folder, entry.name, _id(folder.path / entry.name))
            elif not is_link and not entry.is_file():  # opening a pipe would wait for a writer
                self._leave(folder, entry.name, "not a regular file")
            elif reason := _no_picture(Path(entry.path)):
                self._leave(folder, entry.name, reason)
            else:
                folder.pictures.append(entry.name)

    def _leave(self, parent: Folder, name: str, why: str) -> None:
        self.left_out.append(LeftOut(_joined(parent, name), why))


def _id(path: Path) -> Id:
    with storage_errors("read", path):
        found = path.stat()
    return found.st_dev, found.st_ino


def _joined(parent: Folder, name: str) -> str:
    return f"{parent.name}/{name}" if parent.name else name


def _no_picture(path: Path) -> str | None:
    """Return why a file is not opened as a picture, None if it is; DICOM has names of any kind."""
    if pictures.is_picture_name(path.name):
        return None
    found = kind_of(path) if path.is_file() else None
    if found == DICOM:
        return None
    return f"not a picture but {found}" if found not in (None, "empty") else "not a picture"


def _why_not(name: str, *, is_folder: bool) -> str | None:
    if name.startswith("."):
        return "hidden"
    if is_folder and name.lower() in _SERVICE:
        return "made by the system, not by you"
    return None


def summarized(left_out: Sequence[LeftOut]) -> list[str]:
    """Describe what was left out, one line for each reason, with the first names."""
    reasons: dict[str, list[str]] = {}
    for one in left_out:
        reasons.setdefault(one.why, []).append(one.name)
    return [f"left out, {why}: {some(names)}" for why, names in reasons.items()]


def some(names: Sequence[str], most: int = _EXAMPLES) -> str:
    """List the first of many names, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more
