"""Add masks to vectors of uint32 and take them off: y = q + Σ ± PRG(seed) mod 2³².

The generator is the ChaCha20 key stream (RFC 8439) with nonce 0, each key for one vector only.
Integers wrap around, so neither chunks nor threads nor order change a bit.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcli.masking.cohort import Cohort
from fedcli.masking.pairwise import Agreement, Seeds
from fedcli.masking.secrets import Secret
from fedcli.security.key_files import cryptography

Words = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int32]
_BLOCK = 64  # bytes of one ChaCha20 block
_CHUNK = 1 << 16  # values; chunk, key stream and zeros stay in the cache of one core
_ZEROS = bytes(4 * _CHUNK)
_MOST_VALUES = 1 << 36  # the block counter has 32 bits


@dataclass(frozen=True)
class Mask:
    """A mask that is added, or subtracted if ``negative``."""

    seed: Secret
    negative: bool = False

    @property
    def inverse(self) -> "Mask":
        """The mask that takes this one off."""
        return Mask(self.seed, not self.negative)


def masks_of(cohort: Cohort, member: str, seeds: Seeds) -> list[Mask]:
    """Return the masks of a member's vector: its own, + those of later members, − of earlier."""
    return [Mask(seeds.own), *(pair_mask(cohort, member, j, s) for j, s in seeds.pairs.items())]


def pair_mask(cohort: Cohort, member: str, other: str, seed: Secret) -> Mask:
    """Return the mask that a member adds for another one, which adds its inverse."""
    return Mask(seed, negative=cohort.number(other) < cohort.number(member))


def mask(agreement: Agreement, values: Integers, threads: int = 1) -> "Masked":
    """Mask a member's integers; the same integers give the same bytes."""
    values = np.ascontiguousarray(values, "<i4")
    seeds = agreement.seeds(hashlib.sha256(values.data).hexdigest())
    words = values.view("<u4").copy()
    add_masks(words, masks_of(agreement.cohort, agreement.member, seeds), threads)
    return Masked(words, seeds)


@dataclass(frozen=True)
class Masked:
    """A masked vector, which anybody may read, and its seeds, which nobody else may."""

    words: Words
    seeds: Seeds


def key_stream(seed: Secret, start: int, into: Words) -> None:
    """Fill ``into`` with the key stream of a seed, from its value ``start`` on.

    ``start`` is a multiple of 16, the values of a block.
    """
    with cryptography():
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    counter = (4 * start // _BLOCK).to_bytes(4, "little")
    cipher = Cipher(ChaCha20(seed.value, counter + bytes(12)), mode=None).encryptor()
    bytes_ = into.view(np.uint8)
    cipher.update_into(memoryview(_ZEROS)[: bytes_.size], bytes_.data)


def add_masks(values: Words, masks: Sequence[Mask], threads: int = 1) -> None:
    """Add masks to a vector in place, modulo 2³²; any number of threads gives the same bytes.

    Raises ``ValueError`` for more values than a key stream has.
    """
    if values.size > _MOST_VALUES:
        raise ValueError(f"{values.size} values, expected at most {_MOST_VALUES}")
    starts = range(0, values.size, _CHUNK)
    if threads == 1:
        for start in starts:
            _add_to_chunk(values, start, masks)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(_add_to_chunk, values, start, masks) for start in starts]:
            done.result()


def _add_to_chunk(values: Words, start: int, masks: Sequence[Mask]) -> None:
    chunk = values[start : start + _CHUNK]
    stream = np.empty(chunk.size, np.dtype("<u4"))
    for mask in masks:
        key_stream(mask.seed, start, stream)
        (np.subtract if mask.negative else np.add)(chunk, stream, out=chunk)
