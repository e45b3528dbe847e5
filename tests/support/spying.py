"""Everything secret that a command reads, draws or derives, and the spellings to look for."""

import hmac
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf import hkdf

from fedcli.security.secret_streams import SecretStreams

_SHORTEST = 16  # bytes; anything shorter may be found by chance


def spellings(secret: bytes) -> list[bytes]:
    """Return the ways in which a file or a text may show secret bytes."""
    # base64 of a longer text that contains it, as PEM is, has one of three alignments
    inner = [b64encode(bytes(pad) + secret)[4 if pad else 0 : -4] for pad in range(3)]
    numbers = [str(int.from_bytes(secret, order)).encode() for order in ("little", "big")]
    return [
        *(secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode()),
        *(b64encode(secret), urlsafe_b64encode(secret), *inner, *numbers),
        *(repr(secret)[2:-1].encode(), str(list(secret)).encode()[1:-1]),
    ]


def shown(known: Iterable[bytes], texts: Mapping[str, bytes]) -> list[str]:
    """Return the names of the texts that show one of the secrets."""
    forms = [one for secret in known for one in spellings(secret)]
    return sorted(name for name, text in texts.items() if any(form in text for form in forms))


class Spy:
    """Collects what the cryptography of this process is given and returns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets: set[bytes] = set()
        self._patch = monkeypatch
        monkeypatch.setattr(hkdf, "HKDF", self._derivation(hkdf.HKDF))
        self._watch(hmac, "new", lambda given, _: given[0])
        self._watch(secrets, "token_bytes", lambda _, made: made)
        self._watch(SecretStreams, "seed", lambda _, made: str(made).rjust(_SHORTEST).encode())

    def add(self, secret: bytes) -> None:
        """Remember a secret that is long enough to be recognised."""
        if len(secret) >= _SHORTEST:
            self.secrets.add(bytes(secret))

    def _watch(self, owner: Any, name: str, secret: Callable[[Any, Any], bytes]) -> None:
        really = getattr(owner, name)

        def watched(*given: Any, **more: Any) -> Any:
            made = really(*given, **more)
            self.add(secret(given, made))
            return made

        self._patch.setattr(owner, name, watched)

    def _derivation(self, really: Any) -> Callable[..., Any]:
        def make(**how: Any) -> Any:
            return _Derivation(self, really(**how))

        return make


class _Derivation:
    def __init__(self, spy: Spy, really: Any) -> None:
        self.spy, self.really = spy, really

    def derive(self, material: bytes) -> bytes:
        made: bytes = self.really.derive(material)
        for secret in (material, made):
            self.spy.add(secret)
        return made
