"""A public key as one line of text: ``ed25519:`` and the base64 of its 32 bytes."""

import base64

from fedcli.errors import UsageError
from fedcli.text import brief

ALGORITHM = "ed25519"
PREFIX = f"{ALGORITHM}:"
PUBLIC_BYTES = 32


def decoded_base64(text: str, size: int) -> bytes:
    """Decode base64 in its one canonical spelling; raise ``ValueError``."""
    raw = base64.b64decode(text.encode(), validate=True)
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise ValueError(f"expected the base64 of {size} bytes")
    return raw


def check_public_key(text: object, origin: str) -> str:
    """Return a valid public key unchanged; else raise ``UsageError`` that names ``origin``."""
    try:
        if isinstance(text, str) and text.startswith(PREFIX):
            decoded_base64(text.removeprefix(PREFIX), PUBLIC_BYTES)
            return text
    except ValueError:
        pass
    raise UsageError(
        f"{origin}: expected a public key as printed by fedcli keygen, found {brief(text)}",
        hint="fedcli keygen FILE makes a key and prints its public part",
    )
