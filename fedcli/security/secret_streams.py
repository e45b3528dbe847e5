"""Secret random bytes: streams of ChaCha20 (RFC 8439), each with a key of its own from HKDF.

The package ``cryptography`` is imported when the first stream is read.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcli.security.key_files import cryptography

KEY_BYTES = 32
_BLOCK = bytes(2**20)  # zeros to encrypt: a larger buffer would not stay in a cache
_LAYOUT = 16  # ChaCha20's counter and nonce, all 0: a key serves one stream


def hkdf(key: bytes, info: bytes, size: int, salt: bytes | None = None) -> bytes:
    """Return ``size`` bytes of HKDF-SHA256 (RFC 5869). Raises ``MissingDependencyError``."""
    with cryptography():
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(key)


def key_stream(key: bytes, size: int) -> bytearray:
    """Return the first ``size`` bytes of the ChaCha20 stream of a key of 32 bytes.

    The nonce and the first counter are 0. Raises ``MissingDependencyError``.
    """
    with cryptography():
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    stream = Cipher(algorithms.ChaCha20(key, bytes(_LAYOUT)), None).encryptor()
    found = bytearray(size)
    view, zeros = memoryview(found), memoryview(_BLOCK)
    for start in range(0, size, len(_BLOCK)):
        stream.update_into(zeros[: size - start], view[start : start + len(_BLOCK)])
    return found


@dataclass(frozen=True)
class SecretStreams:
    """The streams of one step of a run: an independent one for every purpose and number."""

    _key: bytes = field(repr=False)

    def words(self, purpose: str, number: int, count: int) -> NDArray[np.uint32]:
        """Return the first ``count`` words of a stream: uint32, uniform, writable."""
        key = hkdf(self._key, f"{purpose}\0{number}".encode(), KEY_BYTES)
        return np.frombuffer(key_stream(key, 4 * count), "<u4")

    def seed(self, purpose: str) -> int:
        """Return a secret seed of 63 bits for a generator that is not cryptographic."""
        low, high = self.words(purpose, 0, 2).tolist()
        return int(low | (high & 0x7FFFFFFF) << 32)
