"""Ed25519 keys (RFC 8032): sign with a private one, check with a public one."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.formats.public_key import PREFIX, PUBLIC_BYTES, decoded_base64
from fedcli.security.key_files import KeyFile, cryptography, read_key_file, write_key_file
from fedcli.security.secret_streams import hkdf

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class SigningKey:
    """A private key from a file; ``public`` is its public key as a line of text."""

    path: Path
    public: str
    _private: "Ed25519PrivateKey" = field(repr=False)

    @classmethod
    def of(cls, keys: KeyFile) -> "SigningKey":
        """Take the signing key of a file."""
        return cls(keys.path, keys.public.signing, keys.signing)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, base64; it is deterministic."""
        return base64.b64encode(self._private.sign(message)).decode()

    def derive(self, purpose: str, size: int) -> bytes:
        """Return secret bytes that follow from the key: HKDF-SHA256 without salt (RFC 5869)."""
        return hkdf(self._private.private_bytes_raw(), purpose.encode(), size)


def verifies(public: str, message: bytes, signature: str) -> bool:
    """Return whether a signature (base64) of a message is valid for a public key.

    Raises ``MissingDependencyError``.
    """
    with cryptography():
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


def write_new_key(path: Path, *, outside: Path, force: bool = False) -> SigningKey:
    """Make a file of private keys, and return the signing key. Raises as ``write_key_file``."""
    return SigningKey.of(write_key_file(path, outside=outside, force=force))


def read_key(path: Path, *, outside: Path | None) -> SigningKey:
    """Read the signing key of a file. Raises what ``read_key_file`` does."""
    return SigningKey.of(read_key_file(path, outside=outside))
