"""A remote that is a folder: a mounted share, a synchronised folder, a memory stick."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fedcli.errors import BadInputError
from fedcli.remotes.remote import PIECE, Advance, Entry
from fedcli.storage.atomic import draft, storage_errors, write_all
from fedcli.storage.untrusted import InputFile


class FolderRemote:
    """A folder of this machine, which is created when the first file is."""

    is_bundle = False
    streams = 1

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def files(self, folder: str) -> dict[str, Entry]:
        """Return the files in a folder, links and the like among them: reading refuses these."""
        found = (one for one in self._listed(folder) if not one.is_dir())
        with storage_errors("read", self._root / folder):
            return {one.name: _entry(one) for one in found}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        return [one.name for one in self._listed(folder) if one.is_dir()]

    def _listed(self, folder: str) -> list["os.DirEntry[str]"]:
        with storage_errors("read", self._root / folder):
            try:
                return list(os.scandir(self._root / folder))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def pieces(self, path: str, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file; raise ``BadInputError`` for one that changes meanwhile."""
        with InputFile(self._root / path) as file:
            if file.size != entry.size:
                raise BadInputError("was replaced; repeat the command", path=file.path)
            for offset in range(0, file.size, PIECE):
                yield file.read(min(PIECE, file.size - offset), offset)
            file.check_unchanged()

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Copy a file beside its place, and link it there; ``OvertakenError`` if that is taken."""
        with InputFile(source) as file, draft(self._root / path, replace=False) as started:
            for offset in range(0, file.size, PIECE):
                piece = file.read(min(PIECE, file.size - offset), offset)
                write_all(started.file, piece, offset)
                advance(len(piece))
            file.check_in_place()
            started.publish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


def _entry(one: "os.DirEntry[str]") -> Entry:
    status = one.stat(follow_symlinks=False)
    stamp = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    return Entry(status.st_size, stamp)
