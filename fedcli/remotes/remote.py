"""The one protocol of all remotes: list a folder, read a file, create a file, and nothing else.

A remote has the files of a run under the names that they have in a run directory. Nothing there is
ever replaced or removed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fedcli.errors import FedcliError, StorageError

PIECE = 4 * 2**20  # bytes read or sent at a time
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Entry:
    """A file at a remote: its size in bytes, and a stamp that changes whenever the file does.

    ``stamp`` is None where nothing tells that a file is still the same.
    """

    size: int
    stamp: str | None


class Remote(Protocol):
    """A place with the files of a run; it is entered to be used, and left when all is done.

    What was created appears at the latest when the block ends; a remote that is one file appears
    only then, and not at all after an error. ``streams`` is how many threads may read at a time.
    """

    name: str
    is_bundle: bool
    streams: int

    def files(self, folder: str) -> Mapping[str, Entry]:
        """Return the files in a folder by their names; empty without such a folder.

        Raises ``StorageError`` if the remote cannot be reached.
        """

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder; none without it. Raises as ``files``."""

    def pieces(self, path: str, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file, of at most the size in its entry.

        Raises ``BadInputError`` for a file that cannot be read as what it should be.
        """

    def create(self, path: str, source: Path, advance: Advance) -> None:
        """Create a file from one on this machine; it appears whole or not at all.

        Raises ``OvertakenError`` if there is one of that name, which then stays.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def where(remote: Remote, path: str) -> str:
    """Name a file at a remote, for people."""
    return f"{remote.name}: {path}" if remote.is_bundle else f"{remote.name.rstrip('/')}/{path}"


@contextmanager
def remote_errors(action: str, name: str) -> Iterator[None]:
    """Turn what the library of a protocol raises into a ``StorageError``.

    Each has exceptions of its own, and some raise the plainest ones.
    """
    try:
        yield
    except FedcliError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"{name}: cannot {action}: {reason}",
            hint="what was sent stays; repeat the command once the cause is removed",
        ) from error
