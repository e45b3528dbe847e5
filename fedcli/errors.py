"""Every error that a user can cause, and the exit status that each one ends in.

::

    FedcliError                 1  the step failed
    ├── StorageError            1  a file could not be read or written (disk full, permission)
    ├── MissingDependencyError  1  an optional package is not installed
    ├── ClientFailedError       1  a client that `fedcli run` started did not finish
    ├── UsageError              2  an option has a value that cannot be used
    ├── NotReadyError           3  files that this step needs are not there yet
    ├── BadInputError           4  a file is there, but what it holds cannot be used
    │   ├── CheckpointError     4  not a safetensors file, truncated, or not one of ours
    │   ├── UpdateError         4  an update that cannot take part in its round
    │   ├── DataError           4  pictures, labels or arrays that do not fit
    │   └── RunFormatError      4  not a run directory, or one of a newer format
    ├── ConflictError           5  the output exists and was made from other inputs
    │   ├── LostError           5  the output exists, and what belongs to it was lost
    │   └── OvertakenError      5  the output was written by another process meanwhile
    └── OutOfMemoryError        6  not enough memory, after every fallback

A message names the file, the tensor or the option, what was expected and what was
found; the hint is what to do next, as a command where there is one. Both are one printable line,
whatever names from files are in them. The file that is to blame is a field, and so is the client;
the message is put together here, and nothing takes it apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Self

from fedcli.text import printable


class ExitStatus(IntEnum):
    """What the process tells the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_READY = 3
    BAD_INPUT = 4
    CONFLICT = 5
    OUT_OF_MEMORY = 6
    INTERRUPTED = 130


class FedcliError(Exception):
    """The root of the tree: a step failed for a reason that a user can act on."""

    kind: ClassVar[str] = "failed"
    status: ClassVar[ExitStatus] = ExitStatus.FAILED

    def __init__(
        self,
        reason: str,
        *,
        hint: str | None = None,
        path: Path | None = None,
        client: str | None = None,
    ) -> None:
        """``path`` is the file or folder to blame, ``client`` whose it is, ``reason`` the rest."""
        self.reason = printable(reason)
        self.message = self.reason if path is None else printable(f"{path}: {reason}")
        self.hint = None if hint is None else printable(hint)
        self.path = path
        self.client = client
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def about(self, path: Path) -> str:
        """Return the message for where it stands beside ``path``, without that name."""
        return self.reason if self.path == path else self.message

    def amended(
        self, *, hint: str | None, message: str | None = None, client: str | None = None
    ) -> Self:
        """Return a copy with another hint, and other words or another client where given."""
        other = copy(self)
        other.hint = None if hint is None else printable(hint)
        other.message = self.message if message is None else printable(message)
        other.client = client or self.client
        return other

    def as_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it, for people, scripts and ``error_from_json``."""
        found = {"kind": self.kind, "message": self.message, "hint": self.hint}
        if self.path is not None:
            found |= {"path": str(self.path), "reason": self.reason}
        return found if self.client is None else found | {"client": self.client}


class StorageError(FedcliError):
    """A file could not be read or written: disk full, permission, network share gone."""

    kind = "storage"


class MissingDependencyError(FedcliError):
    """An optional package that this option needs is not installed."""

    kind = "missing-dependency"


class ClientFailedError(FedcliError):
    """A client that ``fedcli run`` started did not finish."""

    kind = "client-failed"


class UsageError(FedcliError):
    """An option has a value that cannot be used."""

    kind = "usage"
    status = ExitStatus.USAGE


class NotReadyError(FedcliError):
    """Files that this step needs are not there yet."""

    kind = "not-ready"
    status = ExitStatus.NOT_READY


class BadInputError(FedcliError):
    """A file is there, but what it holds cannot be used."""

    kind = "bad-input"
    status = ExitStatus.BAD_INPUT


class CheckpointError(BadInputError):
    """Not a safetensors file, truncated, or not written by this program."""

    kind = "bad-checkpoint"


class UpdateError(BadInputError):
    """An update that cannot take part in its round: other base, shape, dtype, or not finite.

    ``others`` are errors of other updates, found at the same time.
    """

    kind = "bad-update"
    others: tuple["UpdateError", ...] = ()

    @classmethod
    def together(cls, errors: Sequence["UpdateError"]) -> "UpdateError":
        """Return the first of several errors, with the others."""
        first, *others = errors
        first.others = (*first.others, *others)
        return first


class DataError(BadInputError):
    """Pictures, labels or arrays that do not fit the run."""

    kind = "bad-data"


class RunFormatError(BadInputError):
    """Not a run directory, or one of a newer format."""

    kind = "bad-run"


class ConflictError(FedcliError):
    """The output exists and was made from other inputs; nothing was changed."""

    kind = "conflict"
    status = ExitStatus.CONFLICT


class LostError(ConflictError):
    """The output exists, is not known to differ, and what belongs to it was lost."""

    kind = "lost"


class OvertakenError(ConflictError):
    """The output was not there, and another process wrote it while this one was making it."""

    kind = "overtaken"


class OutOfMemoryError(FedcliError):
    """Not enough memory on the device, after every fallback."""

    kind = "out-of-memory"
    status = ExitStatus.OUT_OF_MEMORY


def error_from_json(error: Mapping[str, Any]) -> FedcliError:
    """Rebuild the error that another process printed with ``as_json``."""
    kinds = {cls.kind: cls for cls in _tree(FedcliError)}
    path, client = error.get("path"), error.get("client")
    found = kinds.get(error["kind"], FedcliError)(
        error.get("reason", error["message"]),
        path=None if path is None else Path(path),
    )
    return found.amended(message=error["message"], hint=error["hint"], client=client)


def _tree(cls: type[FedcliError]) -> Iterator[type[FedcliError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)
