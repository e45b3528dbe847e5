"""``int8``: every step as an integer from −127 to 127, with a scale for each group."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import Chunk, Codec, Encoded, Steps, Table, Vector, check_finite

_GROUP = 2_048  # coordinates; a chunk is a whole number of groups
_MOST = 127


@dataclass(frozen=True)
class Int8(Codec):
    """Round steps to multiples of s = max |p| / 127, with one s for every 2,048 coordinates."""

    name: ClassVar[str] = "int8"

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        starts = np.arange(0, vector.size, _GROUP)
        most = np.maximum.reduceat(np.abs(steps), starts)
        scales = (most / np.float32(_MOST)).astype(np.float32)
        each = np.repeat(np.where(scales > 0, scales, 1), _GROUP)[: vector.size]
        # a scale that is denormal may round down, and the quotient up
        levels = np.clip(np.rint(steps / each), -_MOST, _MOST).astype(np.int8)
        table = np.zeros((vector.chunks, self.columns), np.int32)
        return Encoded(table, levels.view(np.uint8), scales)

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        return vector.chunk_sizes

    def scale_count(self, vector: Vector) -> int:
        """Return the number of groups."""
        return -(-vector.size // _GROUP)

    def decode(self, chunk: Chunk, into: Steps) -> None:
        """See ``Codec``."""
        first = chunk.first // _GROUP
        scales = chunk.scales[first : first + -(-chunk.size // _GROUP)]
        levels = chunk.data.view(np.int8)
        if (levels < -_MOST).any():
            raise ValueError("a level of its encoding is out of range")
        np.multiply(levels, np.repeat(scales, _GROUP)[: chunk.size], out=into)
