"""Private keys in files: PEM (PKCS #8, without a password) that only its owner can read.

A file begins with an Ed25519 key (RFC 8032), which signs; an X25519 key (RFC 7748) may follow,
which agrees on the masks of secure aggregation. ``cryptography`` is imported when it is needed.
"""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import BadInputError, MissingDependencyError
from fedcli.formats.public_key import MASKING_PREFIX, PREFIX, PublicKeys, public_line
from fedcli.security.private_files import check_absent, check_outside, read_private, write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_BLOCK = re.compile(rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


@contextmanager
def cryptography() -> Iterator[None]:
    """Turn a missing package into a ``MissingDependencyError``."""
    try:
        yield
    except ImportError:
        raise MissingDependencyError(
            "keys, signatures, masks and noise need cryptography, which is not installed",
            hint="pip install 'fedcli[sign]'",
        ) from None


@dataclass(frozen=True)
class KeyFile:
    """The private keys of a file; ``masking`` is None in a file for signatures only."""

    path: Path
    signing: "Ed25519PrivateKey" = field(repr=False)
    masking: "X25519PrivateKey | None" = field(repr=False)

    @property
    def public(self) -> PublicKeys:
        """The public keys."""
        signing = public_line(PREFIX, self.signing.public_key().public_bytes_raw())
        if self.masking is None:
            return PublicKeys(signing, None)
        raw = self.masking.public_key().public_bytes_raw()
        return PublicKeys(signing, public_line(MASKING_PREFIX, raw))

    def write(self, *, force: bool = False) -> None:
        """Write the keys, readable only by their owner. Raises what ``write_private`` does."""
        write_private(self.path, _pem(self), force=force)


def make_keys(path: Path) -> KeyFile:
    """Draw both private keys of the file ``path``, which is not written yet.

    Raises ``MissingDependencyError``.
    """
    with cryptography():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    return KeyFile(path, Ed25519PrivateKey.generate(), X25519PrivateKey.generate())


def write_key_file(path: Path, *, outside: Path, force: bool = False) -> KeyFile:
    """Make both private keys and write them, readable only by their owner.

    Raises ``UsageError`` for a path in the directory ``outside``, ``ConflictError`` if the file
    exists, unless ``force``, ``StorageError`` and ``MissingDependencyError``.
    """
    check_outside(path, outside)
    check_absent(path, force=force)
    made = make_keys(path)
    made.write(force=force)
    return made


def _pem(keys: KeyFile) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    how = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    second = b"" if keys.masking is None else keys.masking.private_bytes(*how)
    return keys.signing.private_bytes(*how) + second


def read_key_file(path: Path, *, outside: Path | None) -> KeyFile:
    """Read the private keys of a file.

    Raises ``UsageError`` for a path in the directory ``outside``, ``NotReadyError`` if the file
    does not exist, ``BadInputError`` if others may access it or if it does not begin with an
    Ed25519 key without a password, ``StorageError`` and ``MissingDependencyError``.
    """
    if outside is not None:
        check_outside(path, outside)
    wrong = _no_key(path, "found something else")
    pem = read_private(path, command="fedcli keygen FILE", wrong=wrong)
    with cryptography():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    keys = [_load(path, block[0]) for block in _BLOCK.finditer(pem)] or [_load(path, pem)]
    signing, *others = keys
    if not isinstance(signing, Ed25519PrivateKey):
        raise _no_key(path, f"found a key of another sort, {type(signing).__name__}")
    for other in others:
        if len(others) > 1 or not isinstance(other, X25519PrivateKey):
            raise _no_key(path, "found others beside it; only one X25519 key may follow")
        return KeyFile(path, signing, other)
    return KeyFile(path, signing, None)


def _load(path: Path, pem: bytes) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise BadInputError(
            "is encrypted, and keys are read without a password",
            hint=f"openssl pkey -in {shlex.quote(str(path))} prints it without one",
            path=path,
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key(path, "found something else") from None


def _no_key(path: Path, found: str) -> BadInputError:
    return BadInputError(
        f"expected a private key, Ed25519 in PEM form, {found}",
        hint="fedcli keygen FILE makes one",
        path=path,
    )
