"""Keys for secret noise: 32 random bytes in a file that only its owner can read.

Everything that privacy needs to be secret is derived from such a key, never from the run's seed,
which is public.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.security.private_files import (
    check_absent,
    check_outside,
    read_secret,
    secret_line,
    write_private,
)
from fedcli.security.secret_streams import KEY_BYTES, SecretStreams, hkdf

_PREFIX = "noise:"


@dataclass(frozen=True)
class NoiseKey:
    """A noise key from a file."""

    path: Path
    _secret: bytes = field(repr=False)

    @property
    def commitment(self) -> str:
        """The key's SHA-256, hex, which is public: it names the key and does not tell it."""
        return hashlib.sha256(self._secret).hexdigest()

    def streams(self, run: str, round_number: int, inputs: str) -> SecretStreams:
        """Return the secret streams of one step of a run.

        ``inputs`` is the SHA-256 of all inputs and options of the step, hex: the same ones give the
        same streams, others give independent ones. Raises ``MissingDependencyError``.
        """
        purpose = "\0".join(("fedcli noise", run, str(round_number), inputs))
        return SecretStreams(hkdf(self._secret, purpose.encode(), KEY_BYTES))


def write_noise_key(path: Path, *, outside: Path, force: bool = False) -> NoiseKey:
    """Make a noise key and write it, readable only by its owner.

    Raises ``UsageError`` for a path in the directory ``outside``, ``ConflictError`` if the file
    exists, unless ``force``, and ``StorageError``.
    """
    check_outside(path, outside)
    check_absent(path, force=force)
    secret = secrets.token_bytes(KEY_BYTES)
    write_private(path, secret_line(_PREFIX, secret), force=force)
    return NoiseKey(path, secret)


def read_noise_key(path: Path, *, outside: Path) -> NoiseKey:
    """Read a noise key.

    Raises ``UsageError`` for a path in the directory ``outside``, ``NotReadyError`` if the file
    does not exist, ``BadInputError`` if others may access it or if it is not a noise key, and
    ``StorageError``.
    """
    check_outside(path, outside)
    command = "fedcli keygen --noise FILE"
    return NoiseKey(
        path, read_secret(path, _PREFIX, KEY_BYTES, command=command, wrong=_no_key(path))
    )


def _no_key(path: Path) -> BadInputError:
    return BadInputError(
        f"expected a noise key, {_PREFIX} and the base64 of {KEY_BYTES} bytes, found something"
        " else",
        hint="fedcli keygen --noise FILE makes one",
        path=path,
    )
