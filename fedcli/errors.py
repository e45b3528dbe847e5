"""All errors that a user can cause, and their exit statuses.

::

    FedcliError                 1  the step failed
    ├── StorageError            1  a file could not be read or written (disk full, permission)
    ├── MissingDependencyError  1  an optional package is not installed
    ├── ClientFailedError       1  a client that `fedcli run` started did not finish
    │   ├── SeveralFailedError  *  several clients of one command failed; as the first of them
    │   └── StepLostError       1  the engine lost a step: its worker died, its job was cancelled
    ├── UsageError              2  an option has a value that cannot be used
    ├── NotReadyError           3  files that this step needs do not exist yet
    ├── BadInputError           4  a file exists, but its content cannot be used
    │   ├── CheckpointError     4  not a safetensors file, truncated, or not one of ours
    │   ├── UpdateError         4  an update that cannot take part in its round
    │   ├── DataError           4  pictures, labels or arrays that do not fit
    │   │   └── BadFilesError   4  pictures that cannot be decoded, all of a folder at once
    │   └── RunFormatError      4  not a run directory, or one of a newer format
    ├── ConflictError           5  the output exists and was made from other inputs
    │   ├── BudgetError         5  the step would spend more privacy than is allowed
    │   ├── LostError           5  the output exists, but files that belong to it are lost
    │   └── OvertakenError      5  the output was written by another process meanwhile
    └── OutOfMemoryError        6  not enough memory, after every fallback

A message names the file, the tensor or the option, what was expected and what was found. The hint
says what to do next, as a command if possible. Both are one printable line, whatever names from
files they contain. The file and the client to blame are fields, so nothing parses messages.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from fedcli.text import printable

_NAMED = 10  # files that a message names


class ExitStatus(IntEnum):
    """The exit status of the process."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_READY = 3
    BAD_INPUT = 4
    CONFLICT = 5
    OUT_OF_MEMORY = 6
    INTERRUPTED = 130


class FedcliError(Exception):
    """Root of the tree: a step failed for a reason that a user can act on."""

    kind: ClassVar[str] = "failed"
    status: ExitStatus = ExitStatus.FAILED

    def __init__(
        self,
        reason: str,
        *,
        hint: str | None = None,
        path: Path | None = None,
        client: str | None = None,
    ) -> None:
        """Blame ``path``, a file or folder, and ``client``; the message is path and reason."""
        self.reason = printable(reason)
        self.message = self.reason if path is None else printable(f"{path}: {reason}")
        self.hint = None if hint is None else printable(hint)
        self.path = path
        self.client = client
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def about(self, path: Path) -> str:
        """Return the message for use next to ``path``, without repeating that name."""
        return self.reason if self.path == path else self.message

    def amended(
        self, *, hint: str | None, message: str | None = None, client: str | None = None
    ) -> Self:
        """Return a copy with this hint, and this message and client if given."""
        other = copy(self)
        other.hint = None if hint is None else printable(hint)
        other.message = self.message if message is None else printable(message)
        other.client = client or self.client
        return other

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that ``--json`` prints and ``error_from_json`` reads."""
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


class SeveralFailedError(ClientFailedError):
    """Several of the clients of one command failed; the others are done.

    ``each`` are their errors. The exit status is that of the first.
    """

    kind = "several-failed"
    each: tuple[FedcliError, ...] = ()

    @classmethod
    def together(cls, errors: Sequence[FedcliError], total: int) -> FedcliError:
        """Return one error that names all clients that failed, of ``total``, with the reasons."""
        if len(errors) == 1:
            return errors[0]
        lines = [f"client {error.client}: {error.message}" for error in errors[:_MOST_NAMED]]
        more = [f"and {len(errors) - len(lines)} more"] if len(errors) > len(lines) else []
        named = "; ".join([*lines, *more])
        error = cls(f"{len(errors)} of {total} clients failed: {named}", hint=errors[0].hint)
        error.each, error.status = tuple(errors), errors[0].status
        return error

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object, in which ``failures`` lists each."""
        failures = [error.as_json() for error in self.each]
        return super().as_json() | ({"failures": failures} if failures else {})


class StepLostError(ClientFailedError):
    """The engine lost a step, which may well succeed when it is submitted again."""

    kind = "step-lost"


class UsageError(FedcliError):
    """An option has a value that cannot be used; ``unknown`` are both, if no option knows it."""

    kind = "usage"
    status = ExitStatus.USAGE
    unknown: tuple[str, str] | None = None


class NotReadyError(FedcliError):
    """Files that this step needs do not exist yet."""

    kind = "not-ready"
    status = ExitStatus.NOT_READY


class BadInputError(FedcliError):
    """A file exists, but its content cannot be used."""

    kind = "bad-input"
    status = ExitStatus.BAD_INPUT


class CheckpointError(BadInputError):
    """Not a safetensors file, truncated, or not written by this program."""

    kind = "bad-checkpoint"


class UpdateError(BadInputError):
    """An update that cannot take part in its round: other base, shape, dtype, or not finite.

    ``mend`` says how to get a good one, and ``without`` returns the command that does without the
    updates of some clients. ``parts`` are the errors of several updates, which were found at the
    same time; such an error blames no single file.
    """

    kind = "bad-update"
    parts: tuple["UpdateError", ...] = ()
    mend: str | None = None
    without: "Without | None" = None

    @classmethod
    def mendable(
        cls, reason: str, path: Path, client: str, *, mend: str, without: "Without"
    ) -> "UpdateError":
        """Return the error of one client's update, with a hint made of these two."""
        hint = f"{mend}, or leave it out: {without([client])}"
        error = cls(reason, hint=hint, path=path, client=client)
        error.mend, error.without = mend, without
        return error

    @classmethod
    def together(cls, errors: Sequence["UpdateError"]) -> "UpdateError":
        """Return one error that names all bad updates, each with its reason."""
        parts = tuple(part for error in errors for part in error.each)
        if len(parts) == 1:
            return parts[0]
        lines = [part.message for part in parts[:_MOST_NAMED]]
        more = len(parts) - len(lines)
        named = "; ".join([*lines, *([f"and {more} more"] if more else [])])
        error = cls(f"{len(parts)} updates cannot be used: {named}", hint=_how_to_mend(parts))
        error.parts = parts
        return error

    @property
    def each(self) -> tuple["UpdateError", ...]:
        """The errors of the single updates."""
        return self.parts or (self,)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object; of several updates, ``updates`` lists each."""
        found = super().as_json()
        return found | {"updates": [part.as_json() for part in self.parts]} if self.parts else found


Without = Callable[[Sequence[str]], str]
_MOST_NAMED = 20  # bad updates in one line
_MOST_EXCLUDED = 100  # clients in one command


def _how_to_mend(errors: Sequence[UpdateError]) -> str | None:
    """Return one hint for several updates: the clients of each remedy, and how to go on without."""
    alike: dict[str, list[str]] = {}
    for error in errors[:_MOST_NAMED]:
        if (mend := error.mend or error.hint) is not None:
            alike.setdefault(mend, []).append(error.client or str(error.path))
    hints = [f"{', '.join(clients)}: {mend}" for mend, clients in alike.items()]
    clients = [error.client for error in errors if error.client is not None]
    if errors[0].without is not None and len(clients) == len(errors) <= _MOST_EXCLUDED:
        hints.append(f"or leave them out: {errors[0].without(clients)}")
    return "; ".join(hints) or None


class DataError(BadInputError):
    """Pictures, labels or arrays that do not fit the run."""

    kind = "bad-data"


class BadFilesError(DataError):
    """Pictures that cannot be decoded, all of a folder at once; ``files`` maps each to the reason.

    The message has the first ten; the JSON object has them all.
    """

    kind = "bad-files"
    files: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def together(cls, errors: Sequence[DataError], total: int, *, hint: str) -> "BadFilesError":
        """Return one error for those of several files, of ``total`` that were read."""
        files = {str(error.path): error.reason for error in errors}
        if len(errors) == 1:
            found = cls(errors[0].reason, hint=hint, path=errors[0].path)
        else:
            named = "; ".join(printable(f"{path}: {why}", 300) for path, why in _first(files))
            more = f"; and {len(files) - _NAMED} more (--json lists all)"
            found = cls(
                f"{len(errors)} of {total} pictures cannot be decoded: {named}"
                f"{more if len(files) > _NAMED else ''}",
                hint=hint,
            )
        found.files = files
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that ``--json`` prints, with all files."""
        files = [{"path": path, "reason": why} for path, why in self.files.items()]
        return {**super().as_json(), **({"files": files} if files else {})}


def _first(files: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(files.items())[:_NAMED]


class RunFormatError(BadInputError):
    """Not a run directory, or one of a newer format."""

    kind = "bad-run"


class ConflictError(FedcliError):
    """The output exists and was made from other inputs; nothing was changed."""

    kind = "conflict"
    status = ExitStatus.CONFLICT


class BudgetError(ConflictError):
    """The step would spend more privacy than is allowed; nothing was changed."""

    kind = "budget"


class LostError(ConflictError):
    """The output exists and may be right, but files that belong to it are lost."""

    kind = "lost"


class OvertakenError(ConflictError):
    """Another process wrote the output while this one was making it."""

    kind = "overtaken"


class OutOfMemoryError(FedcliError):
    """Not enough memory on the device, after every fallback."""

    kind = "out-of-memory"
    status = ExitStatus.OUT_OF_MEMORY


# The words of torch, the CPU allocator, C++, cuBLAS, cuDNN, the linker and the system: only torch
# has an exception class.
_NO_MEMORY = (
    *("out of memory", "DefaultCPUAllocator", "bad_alloc", "STATUS_ALLOC_FAILED"),
    *("annot allocate", "can't allocate", "failed to map segment", "can't start new thread"),
)


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error means that memory, of a device or of the process, is exhausted."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    may_be = isinstance(error, RuntimeError | ImportError | OSError)
    return may_be and any(words in str(error) for words in _NO_MEMORY)


def error_from_json(error: Mapping[str, Any]) -> FedcliError:
    """Rebuild the error that another process printed with ``as_json``."""
    kinds = {cls.kind: cls for cls in _tree(FedcliError)}
    path, client = error.get("path"), error.get("client")
    found = kinds.get(error["kind"], FedcliError)(
        error.get("reason", error["message"]), path=None if path is None else Path(path)
    )
    if isinstance(found, BadFilesError):
        found.files = {one["path"]: one["reason"] for one in error.get("files", ())}
    if isinstance(found, SeveralFailedError):
        found.each = tuple(map(error_from_json, error.get("failures", ())))
        found.status = next((one.status for one in found.each), found.status)
    return found.amended(message=error["message"], hint=error["hint"], client=client)


def _tree(cls: type[FedcliError]) -> Iterator[type[FedcliError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)
