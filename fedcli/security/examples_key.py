"""Keys of the digests by which a client recognises its examples.

An update names its examples by a keyed digest: its client can tell whether it was made from the
same examples, and nobody else can test whether the client has those that they hold.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fedcli.errors import BadInputError, ConflictError, UsageError
from fedcli.security.keys import SigningKey
from fedcli.security.private_files import check_outside, read_secret, secret_line, write_private
from fedcli.security.secret_streams import KEY_BYTES

_PURPOSE = "fedcli examples"
_PREFIX = "examples:"
_FILE = "examples.key"


@dataclass(frozen=True)
class ExamplesKey:
    """A key of digests of examples."""

    _secret: bytes = field(repr=False)

    @classmethod
    def of_simulation(cls, run: str) -> Self:
        """Return the key of a run that holds the examples themselves: everybody may know it."""
        return cls(hashlib.sha256(f"{_PURPOSE}\0{run}".encode()).digest())

    @classmethod
    def of_member(cls, key: SigningKey) -> Self:
        """Return the key that follows from a member's private key."""
        return cls(key.derive(_PURPOSE, KEY_BYTES))

    @classmethod
    def of_file(cls, path: Path, *, outside: Path) -> Self:
        """Return the key in a file, which is made if it does not exist.

        Raises ``UsageError`` for a path in the directory ``outside``, ``BadInputError`` if others
        may access the file or if it holds no such key, and ``StorageError``.
        """
        check_outside(path, outside)
        if not path.exists():  # of two processes that make it, one is first, and both read that one
            with suppress(ConflictError):
                made = secret_line(_PREFIX, secrets.token_bytes(KEY_BYTES))
                write_private(path, made, force=False)
        wrong = BadInputError(
            f"expected a key of digests, {_PREFIX} and the base64 of {KEY_BYTES} bytes, found"
            " something else",
            hint="restore it from a backup; without the file, a new key is made, and updates that"
            " exist count as made from other examples",
            path=path,
        )
        return cls(
            read_secret(path, _PREFIX, KEY_BYTES, command="fedcli train-client", wrong=wrong)
        )

    def digest(self, run: str, round_number: int, client: str, examples: str) -> str:
        """Return the HMAC-SHA256 (RFC 2104), hex, of examples that have this SHA-256.

        It differs between runs, rounds and clients, so that nobody learns who trained on the same
        examples again.
        """
        message = "\0".join((run, str(round_number), client, examples))
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()


def key_file(state: Path | None, *, outside: Path) -> Path:
    """Return where a client without a private key keeps the key of its digests.

    That is its ``state`` folder, or without one, or if that is in the directory ``outside``, a
    folder for settings. Raises ``UsageError`` if there is no such folder.
    """
    if state is not None and not state.resolve().is_relative_to(outside.resolve()):
        return state / _FILE
    try:
        settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:
        raise UsageError(
            "--state: there is no home directory to keep the key of the examples' digest in",
            hint="name a folder of the client's own with --state DIR",
        ) from None
    return Path(settings) / "fedcli" / _FILE
