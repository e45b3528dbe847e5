"""A remote that is a folder: a mounted share, a synchronised folder, a memory stick."""

import os
from collections.abc import Iterator
from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.remotes.remote import Advance, Entry, Remote, pieces_of, write_pieces
from fedcli.storage.atomic import draft, storage_errors
from fedcli.storage.untrusted import InputFile


class FolderRemote(Remote):
    """A folder of this machine, which is created when the first file is."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
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
            yield from pieces_of(file)
            file.check_unchanged()

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Copy a file beside its place, and link it there; ``OvertakenError`` if that is taken."""
        with InputFile(source) as file, draft(self._root / path, replace=False) as started:
            write_pieces(started.file, pieces_of(file), advance)
            file.check_in_place()
            started.publish()


def _entry(one: "os.DirEntry[str]") -> Entry:
    status = one.stat(follow_symlinks=False)
    stamp = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    return Entry(status.st_size, stamp)
