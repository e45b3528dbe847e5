"""Remotes behind a URL, through fsspec: object stores, SFTP, and whatever else it reaches."""

import posixpath
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedcli.errors import BadInputError, OvertakenError
from fedcli.remotes.remote import PIECE, Advance, Entry, remote_errors
from fedcli.storage.untrusted import InputFile

# What file systems of fsspec say of a file, by which a replaced one is recognised.
_STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "generation"),
    *("mtime", "LastModified", "last_modified", "updated", "modified"),
)

_PATIENCE = 5.0  # seconds to end a connection


class NetworkRemote:
    """A folder behind a URL. ``name`` is the URL, ``system`` a file system of fsspec."""

    is_bundle = False
    streams = 1  # some protocols of fsspec have one connection, which one thread may use

    def __init__(self, name: str, system: Any, root: str) -> None:
        self.name = name
        self._system = system
        self._root = root.rstrip("/")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _listed(self, folder: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return name and facts of what is in a folder."""
        full = self._full(folder)
        with remote_errors("list", f"{self.name}/{folder}"):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(full, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        start = self._system._strip_protocol(full).rstrip("/") + "/"
        names = ((str(one["name"]).rstrip("/"), one) for one in found)
        return [(posixpath.basename(n), one) for n, one in names if n.startswith(start)]

    def files(self, folder: str) -> dict[str, Entry]:
        """Return the files in a folder."""
        listed = self._listed(folder)
        return {name: _entry(one) for name, one in listed if one.get("type") != "directory"}

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        return [name for name, one in self._listed(folder) if one.get("type") == "directory"]

    def pieces(self, path: str, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        left = entry.size
        with remote_errors("read", f"{self.name}/{path}"), self._opened(path) as file:
            while piece := file.read(min(PIECE, left)) if left else b"":
                left -= len(piece)
                yield bytes(piece)
        if left:
            raise BadInputError(
                f"{self.name}/{path}: became shorter while it was read; repeat the command"
            )

    def _opened(self, path: str) -> Any:
        return self._system.open(self._full(path), "rb", block_size=PIECE)

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Create a file; what has this name by then stays, with an ``OvertakenError``."""
        with InputFile(source) as file, remote_errors("write", f"{self.name}/{path}"):
            try:
                self._create(self._full(path), file, advance)
            except Exception:
                if self._system.exists(self._full(path)):
                    raise OvertakenError(f"{self.name}/{path}: another file is there") from None
                raise
            file.check_in_place()

    def _create(self, full: str, source: InputFile, advance: Advance) -> None:
        """Create a file where fsspec has no way to do it only if there is none.

        Two who look and then send at the same instant may both succeed; one of their files stays.
        """
        if self._system.exists(full):
            raise FileExistsError(full)
        aside = _aside(full)
        self._system.makedirs(self._system._parent(full), exist_ok=True)
        try:
            self._system.put_file(str(source.path), aside)
            self._system.mv(aside, full)
        except BaseException:
            self._discard(aside)
            raise
        advance(source.size)

    def _discard(self, full: str) -> None:
        with suppress(Exception):  # it may never have been written; its name says what it is
            self._system.rm_file(full)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


class S3Remote(NetworkRemote):
    """A prefix in a bucket. The store itself refuses a second object (``If-None-Match: *``)."""

    streams = 16

    def _create(self, full: str, source: InputFile, advance: Advance) -> None:
        self._system.put_file(str(source.path), full, mode="create")
        advance(source.size)


class SftpRemote(NetworkRemote):
    """A folder of an SSH server. SFTP's own rename refuses a name that is taken."""

    streams = 8  # sshd allows ten sessions a connection

    def _opened(self, path: str) -> Any:
        return self._system.open(self._full(path), "rb")

    def _create(self, full: str, source: InputFile, advance: Advance) -> None:
        from fsspec.asyn import sync

        aside = _aside(full)
        self._system.makedirs(self._system._parent(full), exist_ok=True)
        try:
            with self._system.open(aside, "wb") as file:
                for offset in range(0, source.size, PIECE):
                    piece = source.read(min(PIECE, source.size - offset), offset)
                    file.write(piece)
                    advance(len(piece))
            sync(self._system.loop, self._rename, aside, full)
        except BaseException:
            self._discard(aside)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from fsspec.asyn import sync

        with suppress(Exception):  # the server may have gone
            sync(self._system.loop, self._close, timeout=_PATIENCE)

    async def _close(self) -> None:
        await self._system._pool.close()
        await self._system._stack.aclose()

    async def _rename(self, aside: str, full: str) -> None:
        # fsspec's own mv replaces what is there
        async with self._system._pool.get() as channel:
            await channel.rename(aside, full)


def _aside(full: str) -> str:
    folder, name = posixpath.split(full)
    return f"{folder}/.{name}.{secrets.token_hex(8)}.tmp"


def _entry(facts: Mapping[str, Any]) -> Entry:
    stamps = [f"{key}={facts[key]}" for key in _STAMPS if facts.get(key) is not None]
    size = int(facts.get("size") or 0)
    return Entry(size, f"{size} {' '.join(stamps)}" if stamps else None)
