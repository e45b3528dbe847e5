"""Files from strangers, who may also change them: opened with care, read piece by piece."""

import errno
import hashlib
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any, Self, cast

from fedcli.errors import BadInputError, NotReadyError, StorageError
from fedcli.system import NO_LINKS, READ_FLAGS, read_at

# Errors of opening a socket, or a device without a driver.
_NO_FILE = (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)


class InputFile:
    """A regular file that is read piece by piece.

    Symbolic links are followed only with ``follow``, for files that a person named: a link in a
    shared directory can lead anywhere. ``release`` releases the descriptor between two reads, for
    callers that read more files at once than a process may open. Raises ``NotReadyError`` when the
    file does not exist, ``StorageError`` when it cannot be read, and ``BadInputError`` when it is a
    link, not a regular file, became shorter, or was replaced between two reads.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self.path = path
        self._follow = follow
        self._fd: int | None = None
        self._first: tuple[int, ...] | None = None  # its state when it was first opened
        self._wake()
        self.size = self.identity[2]

    def _wake(self) -> int:
        if self._fd is None:
            self._fd = self._open()
            try:
                self._check_state()
            except BaseException:
                self.release()
                raise
        return self._fd

    def _open(self) -> int:
        try:
            if not self._follow and not NO_LINKS and self.path.is_symlink():
                raise OSError(errno.ELOOP, "is a link")
            # without waiting: opening a named pipe must return, so that it can be refused
            return os.open(self.path, READ_FLAGS | (0 if self._follow else NO_LINKS))
        except (FileNotFoundError, NotADirectoryError):
            raise NotReadyError("no such file", path=self.path) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadInputError(
                    "is a symbolic link, which is not followed",
                    hint="put the file itself there",
                    path=self.path,
                ) from None
            if error.errno in _NO_FILE:
                raise self._no_file() from None
            raise StorageError(f"cannot read: {error.strerror}", path=self.path) from error

    def _check_state(self) -> None:
        """Raise ``BadInputError`` for anything but a file, or one that was changed meanwhile."""
        assert self._fd is not None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise self._no_file()
        if self._first is None:
            self._first = _state(status)
        elif self._first != _state(status):
            raise BadInputError(
                "was changed or replaced while it was read; repeat the command", path=self.path
            )

    def _no_file(self) -> BadInputError:
        return BadInputError("expected a file, found something else", path=self.path)

    def check_size(self, most: int | None) -> None:
        """Raise ``BadInputError`` for a file of more than ``most`` bytes; None allows any size."""
        if most is not None and self.size > most:
            raise BadInputError(
                f"has {self.size} bytes, expected at most {most}; it was not read", path=self.path
            )

    def check_unchanged(self) -> None:
        """Raise ``BadInputError`` if the file has changed since it was first opened."""
        if self._fd is None:
            self._wake()
        else:
            self._check_state()

    def check_in_place(self) -> None:
        """Raise ``BadInputError`` if the file was changed, or another one is at its path."""
        try:
            now = self.path.stat(follow_symlinks=self._follow)
        except FileNotFoundError:
            raise BadInputError("was removed while it was used", path=self.path) from None
        if self.identity != _state(now):
            self.check_unchanged()
            raise BadInputError(
                "was replaced while it was used; repeat the command", path=self.path
            )

    @property
    def identity(self) -> tuple[int, ...]:
        """Device, inode, size and time of change, which differ after any change."""
        assert self._first is not None
        return self._first

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) from ``offset`` on."""
        descriptor = self._wake()
        while buffer:
            try:
                count = read_at(descriptor, buffer, offset)
            except OSError as error:
                raise StorageError(f"cannot read: {error.strerror}", path=self.path) from error
            if count == 0:
                raise BadInputError("became shorter while it was read", path=self.path)
            buffer, offset = buffer[count:], offset + count

    def read(self, size: int, offset: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def digest(self) -> str:
        """Return the SHA-256 of the whole file, hex."""
        file = FileIO(self._wake(), closefd=False)
        try:
            file.seek(0)
            found = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
        except OSError as error:
            raise StorageError(f"cannot read: {error.strerror}", path=self.path) from error
        self.check_unchanged()
        return found

    def release(self) -> None:
        """Close the file until it is read again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
