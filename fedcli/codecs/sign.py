"""``sign``: one bit a coordinate, and one magnitude a tensor.

Karimireddy et al. (2019), "Error feedback fixes SignSGD and other gradient compression schemes".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import CHUNK, Chunk, Codec, Encoded, Steps, Table, Vector, check_finite
from fedcli.codecs.bits import fixed, read_signs


@dataclass(frozen=True)
class Sign(Codec):
    """Send the sign of every step; a tensor's steps decode to their mean magnitude."""

    name: ClassVar[str] = "sign"

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        edges = zip(vector.starts.tolist(), vector.sizes, strict=True)
        means = [np.abs(steps[a : a + n]).mean(dtype=np.float64) if n else 0.0 for a, n in edges]
        bits = np.signbit(steps).astype(np.int64)
        pieces = [fixed(bits[a : a + CHUNK], 1) for a in range(0, vector.size, CHUNK)]
        table = np.zeros((vector.chunks, self.columns), np.int32)
        return Encoded(table, np.concatenate(pieces), np.array(means, np.float32))

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        return -(-vector.chunk_sizes // 8)

    def scale_count(self, vector: Vector) -> int:
        """Return the number of tensors."""
        return len(vector.sizes)

    def decode(self, chunk: Chunk, into: Steps) -> None:
        """See ``Codec``."""
        signs = read_signs(chunk.data, chunk.size)
        coordinates = np.arange(chunk.first, chunk.first + chunk.size)
        # of several tensors that start there, all but the last are empty
        tensors = np.searchsorted(chunk.vector.starts, coordinates, side="right") - 1
        values = chunk.scales[tensors]
        into[...] = np.where(signs, -values, values)
