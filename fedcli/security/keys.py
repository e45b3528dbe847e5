"""Ed25519 keys (RFC 8032): private ones in files, public ones as one line of text.

A private key is a PEM file (PKCS #8, without a password) that only its owner can read. A public key
is ``ed25519:`` and the base64 of its 32 bytes. The package ``cryptography`` is imported only for
signing and checking.
"""

import base64
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import (
    BadInputError,
    ConflictError,
    MissingDependencyError,
    NotReadyError,
    OvertakenError,
    UsageError,
)
from fedcli.formats.public_key import PREFIX, PUBLIC_BYTES, decoded_base64
from fedcli.storage.atomic import atomic_writer, storage_errors, write_all

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SIGNATURE_BYTES = 64
_PRIVATE_MODE = 0o600
_MOST_BYTES = 65_536  # largest key file; ours have 119


@dataclass(frozen=True)
class SigningKey:
    """A private key from a file; ``public`` is its public key as a line of text."""

    path: Path
    public: str
    _private: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, base64; it is deterministic."""
        return base64.b64encode(self._private.sign(message)).decode()


@contextmanager
def _cryptography() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise MissingDependencyError(
            "signatures are made and checked by cryptography, which is not installed",
            hint="pip install 'fedcli[sign]'",
        ) from None


def verifies(public: str, message: bytes, signature: str) -> bool:
    """Return whether a signature (base64) of a message is valid for a public key.

    Raises ``MissingDependencyError``.
    """
    with _cryptography():
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    try:
        raw = decoded_base64(signature, _SIGNATURE_BYTES)
        key = Ed25519PublicKey.from_public_bytes(
            decoded_base64(public.removeprefix(PREFIX), PUBLIC_BYTES)
        )
        key.verify(raw, message)
    except (ValueError, InvalidSignature):
        return False
    return True


def _check_outside(path: Path, shared: Path) -> None:
    if path.resolve().is_relative_to(shared.resolve()):
        raise UsageError(
            "is in the run directory, which others read",
            hint="keep private keys elsewhere",
            path=path,
        )


def write_new_key(path: Path, *, outside: Path, force: bool = False) -> SigningKey:
    """Make a private key and write it, readable only by its owner.

    Raises ``UsageError`` for a path in the directory ``outside``, ``ConflictError`` if the file
    exists, unless ``force``, ``StorageError`` and ``MissingDependencyError``.
    """
    _check_outside(path, outside)
    with _cryptography():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    exists = ConflictError(
        "exists; a key that is replaced is lost",
        hint="--show prints its public key; another FILE, or --force, makes another one",
        path=path,
    )
    if path.exists() and not force:
        raise exists
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with atomic_writer(path, _PRIVATE_MODE, replace=force) as file:
            write_all(file, pem, 0)
    except OvertakenError:
        raise exists from None
    return _signing_key(path, private)


def read_key(path: Path, *, outside: Path) -> SigningKey:
    """Read a private key.

    Raises ``UsageError`` for a path in the directory ``outside``, ``NotReadyError`` if the file
    does not exist, ``BadInputError`` if others may access it or if it is not an Ed25519 key without
    a password, ``StorageError`` and ``MissingDependencyError``.
    """
    _check_outside(path, outside)
    pem = _read_private(path)
    with _cryptography():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise BadInputError(
            "is encrypted, and keys are read without a password",
            hint=f"openssl pkey -in {shlex.quote(str(path))} prints it without one",
            path=path,
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key(path, "found something else") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key(path, f"found a key of another sort, {type(private).__name__}")
    return _signing_key(path, private)


def _no_key(path: Path, found: str) -> BadInputError:
    return BadInputError(
        f"expected a private key, Ed25519 in PEM form, {found}",
        hint="fedcli keygen FILE makes one",
        path=path,
    )


def _read_private(path: Path) -> bytes:
    with storage_errors("read", path):
        try:
            status = path.stat()
        except FileNotFoundError:
            hint = "fedcli keygen FILE makes a key"
            raise NotReadyError("no such file", hint=hint, path=path) from None
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise _no_key(path, "found something else")
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~_PRIVATE_MODE:
            raise BadInputError(
                f"expected mode 0600, found {mode:04o}; a private key is its owner's alone",
                hint=f"chmod 600 {shlex.quote(str(path))}",
                path=path,
            )
        return path.read_bytes()


def _signing_key(path: Path, private: "Ed25519PrivateKey") -> SigningKey:
    raw = private.public_key().public_bytes_raw()
    return SigningKey(path, PREFIX + base64.b64encode(raw).decode(), private)
