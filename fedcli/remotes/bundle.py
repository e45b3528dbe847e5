"""A remote that is one file: a zip archive with the files of a run, stored as they are.

The archive is written anew and renamed into place when the block ends. Equal files in equal order
give equal bytes.
"""

import errno
import io
import os
import shutil
import zipfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Self

from fedcli.errors import BadInputError, FedcliError, NotReadyError, OvertakenError
from fedcli.remotes.remote import PIECE, Advance, Entry, Remote, pieces_of, read_whole, where
from fedcli.storage.atomic import draft, storage_errors, write_all
from fedcli.storage.untrusted import InputFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can name
_MODE = 0o644 << 16
_ENCRYPTED = 1
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_FILES = 1_000_000


class BundleRemote(Remote):
    """A zip archive, which need not exist yet."""

    is_bundle = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._old: zipfile.ZipFile | None = None
        self._source: InputFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._new: dict[str, tuple[Path, Advance]] = {}

    def __enter__(self) -> Self:
        with suppress(NotReadyError):
            self._source = InputFile(self._path, follow=True)
        if self._source is not None:
            with self._errors():
                self._old = zipfile.ZipFile(io.BufferedReader(_Source(self._source), PIECE))
                self._members = _checked(self._old)
        return self

    def _leave(self, *, failed: bool) -> None:
        try:
            if self._new and not failed:
                self._write()
        finally:
            if self._source is not None:
                self._source.release()

    @property
    def exists(self) -> bool:
        """Whether the archive existed when the block began."""
        return self._source is not None

    def files(self, folder: str) -> dict[str, Entry]:
        """Return the files in a folder, new ones among them."""
        new = {name: path.stat().st_size for name, (path, _) in self._new.items()}
        sizes = {name: info.file_size for name, info in self._members.items()} | new
        inside = PurePosixPath(folder)
        return {
            PurePosixPath(name).name: Entry(size, None)
            for name, size in sizes.items()
            if PurePosixPath(name).parent == inside
        }

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        start = "" if folder == "" else f"{folder}/"
        names = (name.removeprefix(start) for name in self._members if name.startswith(start))
        return sorted({name.partition("/")[0] for name in names if "/" in name})

    def pieces(self, path: str, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file; raise ``BadInputError`` if its checksum is wrong."""
        assert self._old is not None
        with self._errors(), self._old.open(self._members[path]) as file:
            yield from read_whole(file.read, entry, where(self, path))

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Take note of a file, which is copied when the block ends."""
        if path in self._members or path in self._new:
            raise OvertakenError("is in the bundle already", path=self._path / path)
        self._new[path] = source, advance

    def _write(self) -> None:
        with draft(self._path, replace=self.exists) as started:
            with storage_errors("write", self._path):
                with (
                    io.BufferedWriter(_Target(started.file), PIECE) as target,
                    zipfile.ZipFile(target, "w") as archive,
                ):
                    self._fill(archive)
            if self._source is not None:
                self._source.check_in_place()
            started.publish()

    def _fill(self, archive: zipfile.ZipFile) -> None:
        for name, info in self._members.items():
            assert self._old is not None
            with self._errors(), self._old.open(info) as file, _member(archive, name) as target:
                shutil.copyfileobj(file, target, PIECE)
        for name, (path, advance) in self._new.items():
            with InputFile(path) as source, _member(archive, name) as target:
                for piece in pieces_of(source):
                    target.write(piece)
                    advance(len(piece))
                source.check_in_place()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what ``zipfile`` raises for a broken archive into a ``BadInputError``.

        It checks little before it computes with what it reads, and so raises almost anything.
        """
        try:
            yield
        except FedcliError:
            raise
        except Exception as error:
            raise BadInputError(
                f"is not a bundle, or is truncated: {error}",
                hint="copy it again, or ask who made it to repeat fedcli push",
                path=self._path,
            ) from None


class _Seekable(io.RawIOBase):
    """A position in a file, as the standard library moves it."""

    _at = 0

    def seekable(self) -> bool:
        return True

    @abstractmethod
    def _size(self) -> int: ...

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = 0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self._size()
        if start + offset < 0:
            raise OSError(errno.EINVAL, "before the first byte")  # zipfile expects this error
        self._at = start + offset
        return self._at


class _Source(_Seekable):
    """A file from a stranger, as the standard library reads files."""

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def _size(self) -> int:
        return self._file.size

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._file.size - self._at))
        self._file.read_into(view[:count], self._at)
        self._at += count
        return count


class _Target(_Seekable):
    """A draft, as the standard library writes files: all bytes of each call are written."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def write(self, data: "ReadableBuffer") -> int:
        view = memoryview(data).cast("B")
        write_all(self._file, view, self._at)
        self._at += len(view)
        return len(view)


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive; raise ``ValueError`` for what could be read in two ways."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.filename in found:
            raise ValueError("two files have one name")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _READ:
            raise ValueError("encrypted, or compressed in another way than by deflate")
        found[info.filename] = info
        if len(found) > _MOST_FILES:
            raise ValueError(f"more than {_MOST_FILES} files")
    return found


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(name, _EARLIEST)
    info.external_attr, info.create_system = _MODE, 3
    return archive.open(info, "w", force_zip64=True)
