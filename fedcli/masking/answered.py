"""The lists of survivors that a member has answered, or a coordinator signed, beside their keys.

The record is on the disk before any share leaves the machine, so that no crash makes the member
answer two lists of one round: two answers could open a single update. It lies beside the key,
without which nobody answers, and not in the run, where others could remove it.
"""

from contextlib import suppress
from pathlib import Path

from fedcli.errors import ConflictError, OvertakenError
from fedcli.masking.cohort import MaskedRound
from fedcli.storage.atomic import atomic_writer, storage_errors, write_all


def answered_path(key: Path, where: MaskedRound, member: str) -> Path:
    """Return the record of what a member has answered in an attempt at a round."""
    name = f"{where.run}-{where.round:04d}-{where.attempt}-{member}"
    return key.with_name(f"{key.name}.answered") / name


def closed_path(key: Path, where: MaskedRound) -> Path:
    """Return where a coordinator keeps the list that it has signed in an attempt at a round."""
    name = f"{where.run}-{where.round:04d}-{where.attempt}.json"
    return key.with_name(f"{key.name}.closed") / name


def record_answer(path: Path, sha256: str) -> None:
    """Record the SHA-256, hex, of a list, unless it is the one that was answered before.

    Raises ``ConflictError`` for a second list, and ``StorageError``.
    """
    content = f"{sha256}\n".encode()
    if not path.exists():
        with suppress(OvertakenError):
            with atomic_writer(path, 0o600, replace=False) as file:
                write_all(file, content, 0)
            return
    with storage_errors("read", path):
        found = path.read_bytes()
    if found != content:
        raise ConflictError(
            "says that this member has answered another list of survivors of this round and"
            " attempt; two answers could open a single update",
            hint="ask the coordinator why it signed two lists, and keep this record",
            path=path,
        )
