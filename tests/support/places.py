"""Remotes as whoever runs them sees them: their files can be read, changed and removed."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Place(Protocol):
    """A remote; ``name`` is what ``push`` and ``pull`` call it."""

    @property
    def name(self) -> str: ...

    def names(self) -> list[str]: ...

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, data: bytes) -> None: ...

    def remove(self, path: str) -> None: ...


@dataclass(frozen=True)
class DiskPlace:
    """A folder, or one behind an SSH server."""

    name: str
    root: Path

    def names(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (1, 1))  # SFTP tells times in seconds

    def remove(self, path: str) -> None:
        (self.root / path).unlink()


@dataclass(frozen=True)
class StorePlace:
    """A prefix in a bucket."""

    name: str

    def _system(self) -> Any:
        import fsspec

        return fsspec.filesystem("s3", use_listings_cache=False)

    def names(self) -> list[str]:
        start = self.name.removeprefix("s3://") + "/"
        return sorted(name.removeprefix(start) for name in self._system().find(self.name))

    def read(self, path: str) -> bytes:
        data: bytes = self._system().cat_file(f"{self.name}/{path}")
        return data

    def write(self, path: str, data: bytes) -> None:
        self._system().pipe_file(f"{self.name}/{path}", data)

    def remove(self, path: str) -> None:
        self._system().rm_file(f"{self.name}/{path}")


@dataclass(frozen=True)
class ZipPlace:
    """One file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        return sorted(self._files())

    def _files(self) -> dict[str, bytes]:
        with zipfile.ZipFile(self.path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def read(self, path: str) -> bytes:
        return self._files()[path]

    def write(self, path: str, data: bytes) -> None:
        self._save({**self._files(), path: data})

    def remove(self, path: str) -> None:
        self._save({name: data for name, data in self._files().items() if name != path})

    def _save(self, files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
