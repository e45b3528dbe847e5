"""Secret bytes that do not show themselves, and their derivation (HKDF-SHA256, RFC 5869)."""

import hashlib
from dataclasses import dataclass, field

from fedcli.security.secret_streams import hkdf

SEED_BYTES = 32


@dataclass(frozen=True)
class Secret:
    """Secret bytes, which neither ``repr`` nor a traceback with values shows."""

    value: bytes = field(repr=False)

    def derive(self, purpose: str, label: bytes, size: int = SEED_BYTES) -> "Secret":
        """Return a key for one purpose and label: HKDF-SHA256 without salt (RFC 5869)."""
        return Secret(hkdf(self.value, purpose.encode() + b"|" + label, size))

    def commitment(self, label: bytes) -> str:
        """Return a SHA-256, hex, by which everybody recognises these 32 random bytes later."""
        return hashlib.sha256(b"commitment|" + label + b"|" + self.value).hexdigest()
