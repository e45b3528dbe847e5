"""Public keys as one line of text: ``ed25519:`` and the base64 of 32 bytes, for signatures.

After a comma, ``x25519:`` and another 32 bytes may follow, for secure aggregation.
"""

import base64
from typing import NamedTuple

from fedcli.errors import UsageError
from fedcli.text import brief

ALGORITHM = "ed25519"
PREFIX = f"{ALGORITHM}:"
MASKING_PREFIX = "x25519:"
PUBLIC_BYTES = 32
_SEPARATOR = ","


class PublicKeys(NamedTuple):
    """The public keys of one line; ``masking`` is None in a line for signatures only."""

    signing: str
    masking: str | None

    @property
    def line(self) -> str:
        """The line of text."""
        return _SEPARATOR.join(filter(None, self))


def decoded_base64(text: str, size: int) -> bytes:
    """Decode base64 in its one canonical spelling; raise ``ValueError``."""
    raw = base64.b64decode(text.encode(), validate=True)
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise ValueError(f"expected the base64 of {size} bytes")
    return raw


def public_line(prefix: str, raw: bytes) -> str:
    """Return the text of a public key."""
    return prefix + base64.b64encode(raw).decode()


def check_public_key(text: object, origin: str, prefix: str = PREFIX) -> str:
    """Return one valid public key unchanged; else raise ``UsageError`` that names ``origin``."""
    try:
        if isinstance(text, str) and text.startswith(prefix):
            decoded_base64(text.removeprefix(prefix), PUBLIC_BYTES)
            return text
    except ValueError:
        pass
    raise UsageError(
        f"{origin}: expected a public key as printed by fedcli keygen, found {brief(text)}",
        hint="fedcli keygen FILE makes a key and prints its public part",
    )


def public_keys(text: str, origin: str) -> PublicKeys:
    """Read a line that ``fedcli keygen`` prints; raise ``UsageError`` that names ``origin``."""
    signing, separator, masking = text.partition(_SEPARATOR)
    return PublicKeys(
        check_public_key(signing, origin),
        check_public_key(masking, origin, MASKING_PREFIX) if separator else None,
    )
