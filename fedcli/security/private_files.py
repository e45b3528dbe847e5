"""Files that only their owner may read, outside of the run."""

import base64
import shlex
import stat
from pathlib import Path

from fedcli.errors import BadInputError, ConflictError, NotReadyError, OvertakenError, UsageError
from fedcli.formats.public_key import decoded_base64
from fedcli.storage.atomic import atomic_writer, storage_errors, write_all

_PRIVATE_MODE = 0o600
_MOST_BYTES = 65_536  # largest key file; ours have 238


def check_outside(path: Path, shared: Path) -> None:
    """Raise ``UsageError`` for a path in a directory that others read."""
    if path.resolve().is_relative_to(shared.resolve()):
        raise UsageError(
            "is in the run directory, which others read",
            hint="keep private keys elsewhere",
            path=path,
        )


def check_absent(path: Path, *, force: bool) -> None:
    """Raise ``ConflictError`` if a key file exists, unless ``force``."""
    if path.exists() and not force:
        raise _exists(path)


def write_private(path: Path, content: bytes, *, force: bool) -> None:
    """Write a key file, readable only by its owner from its first moment.

    Raises ``ConflictError`` if it exists, unless ``force``, and ``StorageError``.
    """
    try:
        with atomic_writer(path, _PRIVATE_MODE, replace=force) as file:
            write_all(file, content, 0)
    except OvertakenError:
        raise _exists(path) from None


def _exists(path: Path) -> ConflictError:
    return ConflictError(
        "exists; a key that is replaced is lost",
        hint="--show prints its public key; another FILE, or --force, makes another one",
        path=path,
    )


def read_private(path: Path, *, command: str, wrong: BadInputError) -> bytes:
    """Read a key file that ``command`` makes.

    Raises ``NotReadyError`` if it does not exist, ``BadInputError`` if others may access it,
    ``wrong`` if it cannot be a key file, and ``StorageError``.
    """
    with storage_errors("read", path):
        try:
            status = path.stat()
        except FileNotFoundError:
            hint = f"{command} makes a key"
            raise NotReadyError("no such file", hint=hint, path=path) from None
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise wrong
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~_PRIVATE_MODE:
            raise BadInputError(
                f"expected mode 0600, found {mode:04o}; a private key is its owner's alone",
                hint=f"chmod 600 {shlex.quote(str(path))}",
                path=path,
            )
        return path.read_bytes()


def secret_line(prefix: str, secret: bytes) -> bytes:
    """Return secret bytes as a line of text: a prefix, and base64."""
    return f"{prefix}{base64.b64encode(secret).decode()}\n".encode()


def read_secret(path: Path, prefix: str, size: int, *, command: str, wrong: BadInputError) -> bytes:
    """Read the ``size`` bytes of a ``secret_line``. Raises what ``read_private`` does."""
    try:
        text = read_private(path, command=command, wrong=wrong).decode("ascii").removesuffix("\n")
        if not text.startswith(prefix):
            raise ValueError("another prefix")
        return decoded_base64(text.removeprefix(prefix), size)
    except ValueError:
        raise wrong from None  # which must not quote what it found: it may be a key
