"""Remotes behind a URL, through fsspec: object stores, SFTP, and whatever else it reaches."""

import posixpath
import secrets
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from fedcli.errors import OvertakenError
from fedcli.remotes.remote import (
    PIECE,
    Advance,
    Entry,
    Remote,
    pieces_of,
    read_whole,
    remote_errors,
    where,
)
from fedcli.storage.untrusted import InputFile

# What file systems of fsspec say of a file, by which a replaced one is recognised.
_STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "generation"),
    *("mtime", "LastModified", "last_modified", "updated", "modified"),
)

# The parts of a large object, which are held in memory until they are sent.
_PART = 8 * 2**20  # bytes
_MOST_PARTS = 10_000  # that S3 takes
_PARTS_AT_A_TIME = 4  # of each file
_FILES_IN_PARTS = 4  # at a time

_PATIENCE = 5.0  # seconds to end a connection


class NetworkRemote(Remote):
    """A folder behind a URL. ``name`` is the URL, ``system`` a file system of fsspec."""

    # streams stays 1: some protocols of fsspec have one connection, which one thread may use

    def __init__(self, name: str, system: Any, root: str) -> None:
        super().__init__(name)
        self._system = system
        self._root = root.rstrip("/")
        self._made: set[str] = set()

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _listed(self, folder: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return name and facts of what is in a folder."""
        full = self._full(folder)
        with remote_errors("list", self.name, folder):
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
        with remote_errors("read", self.name, path), self._opened(path) as file:
            yield from read_whole(file.read, entry, where(self, path))

    def _opened(self, path: str) -> Any:
        return self._system.open(self._full(path), "rb", block_size=PIECE)

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Create a file; what has this name by then stays, with an ``OvertakenError``."""
        with InputFile(source) as file, remote_errors("write", self.name, path):
            try:
                self._create(self._full(path), file, advance)
            except Exception:
                if self._system.exists(self._full(path)):
                    raise OvertakenError(f"{where(self, path)}: another file is there") from None
                raise
            file.check_in_place()

    def _create(self, full: str, source: InputFile, advance: Advance) -> None:
        aside = _aside(full)
        self._make_parent(full)
        try:
            self._send(source, aside, advance)
            self._rename(aside, full)
        except BaseException:
            self._discard(aside)
            raise

    def _send(self, source: InputFile, aside: str, advance: Advance) -> None:
        self._system.put_file(str(source.path), aside)
        advance(source.size)

    def _rename(self, aside: str, full: str) -> None:
        """Rename a file where fsspec has no way to do it only if the name is free.

        Two who look and then rename at the same instant may both succeed; one of their files stays.
        """
        if self._system.exists(full):
            raise FileExistsError(full)
        self._system.mv(aside, full)

    def _make_parent(self, full: str) -> None:
        folder = self._system._parent(full)
        if folder not in self._made:
            self._system.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    def _discard(self, full: str) -> None:
        with suppress(Exception):  # it may never have been written; its name says what it is
            self._system.rm_file(full)


class S3Remote(NetworkRemote):
    """A prefix in a bucket. The store itself refuses a second object (``If-None-Match: *``)."""

    streams = 16

    def __init__(self, name: str, system: Any, root: str) -> None:
        super().__init__(name, system, root)
        self._in_parts = BoundedSemaphore(_FILES_IN_PARTS)

    def _create(self, full: str, source: InputFile, advance: Advance) -> None:
        part = max(_PART, -(-source.size // _MOST_PARTS))
        with self._in_parts if source.size >= 2 * part else nullcontext():
            self._system.put_file(
                str(source.path),
                full,
                mode="create",
                chunksize=part,
                max_concurrency=_PARTS_AT_A_TIME,
                callback=_counting(advance),
            )


def _counting(advance: Advance) -> Any:
    """Return a callback of fsspec, which calls ``advance`` with the bytes of each part."""
    from fsspec.callbacks import Callback

    counting = Callback()
    counting.relative_update = advance
    return counting


class SftpRemote(NetworkRemote):
    """A folder of an SSH server. SFTP's own rename refuses a name that is taken."""

    streams = 8  # sshd allows ten sessions a connection

    def _opened(self, path: str) -> Any:
        return self._system.open(self._full(path), "rb")

    def _send(self, source: InputFile, aside: str, advance: Advance) -> None:
        with self._system.open(aside, "wb") as file:
            for piece in pieces_of(source):
                file.write(piece)
                advance(len(piece))

    def _rename(self, aside: str, full: str) -> None:
        from fsspec.asyn import sync

        sync(self._system.loop, self._rename_new, aside, full)

    async def _rename_new(self, aside: str, full: str) -> None:
        # fsspec's own mv replaces what is there
        async with self._system._pool.get() as channel:
            await channel.rename(aside, full)

    def _leave(self, *, failed: bool) -> None:
        from fsspec.asyn import sync

        with suppress(Exception):  # the server may have gone
            sync(self._system.loop, self._close, timeout=_PATIENCE)

    async def _close(self) -> None:
        await self._system._pool.close()
        await self._system._stack.aclose()


def _aside(full: str) -> str:
    folder, name = posixpath.split(full)
    return f"{folder}/.{name}.{secrets.token_hex(8)}.tmp"


def _entry(facts: Mapping[str, Any]) -> Entry:
    stamps = [f"{key}={facts[key]}" for key in _STAMPS if facts.get(key) is not None]
    size = int(facts.get("size") or 0)
    return Entry(size, f"{size} {' '.join(stamps)}" if stamps else None)
