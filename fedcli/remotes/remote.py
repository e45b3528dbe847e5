"""The one protocol of all remotes: list a folder, read a file, create a file, and nothing else.

A remote has the files of a run under the names that they have in a run directory. Nothing there is
ever replaced or removed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from fedcli.errors import BadInputError, FedcliError, StorageError
from fedcli.storage.atomic import write_all
from fedcli.storage.untrusted import InputFile

PIECE = 4 * 2**20  # bytes read or sent at a time
Advance = Callable[[int], None]

NEVER_REPLACED = (
    "finished files are never replaced: find out which one is right, remove the other, and repeat"
)
_TOOLS = {"s3": "aws s3 ls", "sftp": "sftp"}
# SFTP has no code for a full disk.
_PLAINER = {"Failure": "the server gives no reason; its disk may be full"}


@dataclass(frozen=True)
class Entry:
    """A file at a remote: its size in bytes, and a stamp that changes whenever the file does.

    ``stamp`` is None where nothing tells that a file is still the same.
    """

    size: int
    stamp: str | None


class Remote(ABC):
    """A place with the files of a run; it is entered to be used, and left when all is done.

    What was created appears at the latest when the block ends; a remote that is one file appears
    only then, and not at all after an error. ``streams`` is how many threads may read or create
    files at a time.
    """

    is_bundle = False
    streams = 1

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def files(self, folder: str) -> Mapping[str, Entry]:
        """Return the files in a folder by their names; empty without such a folder.

        Raises ``StorageError`` if the remote cannot be reached.
        """

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder; none without it. Raises as ``files``."""

    @abstractmethod
    def pieces(self, path: str, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file, of at most the size in its entry.

        Raises ``BadInputError`` for a file that cannot be read as what it should be.
        """

    @abstractmethod
    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Create a file from one on this machine; it appears whole or not at all.

        Raises ``OvertakenError`` if there is one of that name, which then stays.
        """

    def _leave(self, *, failed: bool) -> None:
        """Finish what was created, unless the block ``failed``; by default it is finished."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(failed=kind is not None)


def write_pieces(file: FileIO, pieces: Iterable[bytes], advance: Advance) -> None:
    """Write the bytes of a whole file."""
    offset = 0
    for piece in pieces:
        write_all(file, piece, offset)
        offset += len(piece)
        advance(len(piece))


def read_whole(read: Callable[[int], bytes], entry: Entry, name: str) -> Iterator[bytes]:
    """Yield the bytes of a file at a remote, as ``read`` returns them.

    Raises ``BadInputError`` if there are fewer than its entry says.
    """
    left = entry.size
    while left and (piece := read(min(PIECE, left))):
        left -= len(piece)
        yield bytes(piece)
    if left:
        raise BadInputError(
            f"{name}: ended after {entry.size - left} of {entry.size} bytes",
            hint="repeat the command; if it ends there again, send the file anew",
        )


def pieces_of(file: InputFile) -> Iterator[bytes]:
    """Yield the bytes of a file on this machine."""
    for offset in range(0, file.size, PIECE):
        yield file.read(min(PIECE, file.size - offset), offset)


def where(remote: Remote, path: str) -> str:
    """Name a file at a remote, for people."""
    return f"{remote.name}: {path}" if remote.is_bundle else f"{remote.name.rstrip('/')}/{path}"


@contextmanager
def remote_errors(action: str, remote: str, path: str = "") -> Iterator[None]:
    """Turn what the library of a protocol raises into a ``StorageError``.

    Each has exceptions of its own, and some raise the plainest ones.
    """
    try:
        yield
    except FedcliError:
        raise
    except Exception as error:
        name = f"{remote.rstrip('/')}/{path}" if path else remote
        raise StorageError(
            f"{name}: cannot {action}: {_reason(error)}",
            hint=f"what was moved stays; repeat once the cause is removed{_test(remote)}",
        ) from error


def _reason(error: Exception) -> str:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    words = " ".join(said.split()) or type(error).__name__
    return _PLAINER.get(words, words)


def _test(remote: str) -> str:
    """Name a command that whoever has such a remote can type to see the cause."""
    tool = _TOOLS.get(remote.partition("://")[0])
    return "" if tool is None else f", which this may show: {tool} {remote}"
