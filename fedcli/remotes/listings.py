"""What is at a remote, each folder listed once."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from fedcli.remotes.remote import Entry, Remote

_ROUND = re.compile(r"[0-9]{4}|[1-9][0-9]{4,8}")


class Listings:
    """The listings of one remote, as they were when each was first asked for."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._files: dict[str, Mapping[str, Entry]] = {}

    def files(self, folder: str) -> Mapping[str, Entry]:
        """Return the files in a folder by their names."""
        found = self._files.get(folder)  # another thread may forget it at any time
        if found is None:
            found = self._files[folder] = self._remote.files(folder)
        return found

    def entry(self, path: str) -> Entry | None:
        """Return the entry of a file; None without one."""
        place = PurePosixPath(path)
        folder = "" if len(place.parts) == 1 else str(place.parent)
        return self.files(folder).get(place.name)

    def rounds(self) -> list[int]:
        """Return the numbers of the rounds that have a folder, in order."""
        return sorted(int(n) for n in self._remote.folders("rounds") if _ROUND.fullmatch(n))

    def forget(self) -> None:
        """List everything anew."""
        self._files.clear()
