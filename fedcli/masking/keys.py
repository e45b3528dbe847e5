"""X25519 keys (RFC 7748), with which two members agree on a secret without a message.

A private key stands in the same file as the Ed25519 key of its owner.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.public_key import MASKING_PREFIX, PUBLIC_BYTES, decoded_base64
from fedcli.masking.secrets import Secret
from fedcli.security.key_files import cryptography, read_key_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


@dataclass(frozen=True)
class MaskingKey:
    """A member's private X25519 key from a file; ``public`` is its public key as text."""

    path: Path
    public: str
    _private: "X25519PrivateKey" = field(repr=False)

    @property
    def own(self) -> Secret:
        """The secret that the member shares with nobody."""
        return Secret(self._private.private_bytes_raw())

    def agree(self, public: str, member: str) -> Secret:
        """Return K, the secret shared with the member who has this public key.

        Raises ``BadInputError`` for a public key with which the secret would be known to all
        (RFC 7748, section 6.1).
        """
        with cryptography():
            from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        raw = decoded_base64(public.removeprefix(MASKING_PREFIX), PUBLIC_BYTES)
        try:
            return Secret(self._private.exchange(X25519PublicKey.from_public_bytes(raw)))
        except ValueError:
            raise BadInputError(
                f"the X25519 key of client {member} is a point of small order, with which no secret"
                " can be agreed on",
                hint="ask whoever made the run for another run with a key from fedcli keygen",
                client=member,
            ) from None


def read_masking_key(path: Path) -> MaskingKey:
    """Read the X25519 key of a key file.

    Raises ``UsageError`` for one without such a key, and what ``read_key_file`` does.
    """
    found = read_key_file(path, outside=None)
    public = found.public.masking
    if found.masking is None or public is None:
        raise UsageError(
            f"--key {path}: has no X25519 key, which masks updates",
            hint="fedcli keygen FILE makes both keys; the run must name their public line",
        )
    return MaskingKey(path, public, found.masking)
