"""``randk=F``: coordinates that all clients draw alike, as floats.

Positions are not sent: all parties draw them from the run's seed and the round. Konečný et al.
(2016), "Federated learning: strategies for improving communication efficiency", section 2 (random
mask).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import (
    CHUNK,
    Chunk,
    Encoded,
    Positions,
    Steps,
    Table,
    Vector,
    check_finite,
    split,
)
from fedcli.codecs.floats import dtype_of, read_floats, write_floats
from fedcli.codecs.sparse import SparseCodec
from fedcli.randomness import stream


@dataclass(frozen=True)
class RandK(SparseCodec):
    """Send a ``share`` of the coordinates, drawn anew in every round, in ``dtype``."""

    share: float
    dtype: str = "float32"

    name: ClassVar[str] = "randk"

    def drawn(self, vector: Vector) -> Positions:
        """Return the positions, ascending, that everybody draws."""
        return _drawn(vector, vector.share(self.share))

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        values = write_floats(steps[self.drawn(vector)], self.dtype)
        table = np.zeros((vector.chunks, self.columns), np.int32)
        return Encoded(table, values, np.zeros(0, np.float32))

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        parts = split(self.drawn(vector), vector)
        counts = np.array([part.stop - part.start for part in parts], np.int64)
        return counts * dtype_of(self.dtype).itemsize

    def scale_count(self, vector: Vector) -> int:
        """Return 0: values are sent as they are."""
        return 0

    def sent(self, chunk: Chunk) -> tuple[Positions, Steps]:
        """See ``SparseCodec``."""
        drawn = self.drawn(chunk.vector)
        part = split(drawn, chunk.vector)[chunk.first // CHUNK]
        steps = read_floats(chunk.data, self.dtype)
        check_finite(steps)
        return drawn[part] - chunk.first, steps


@lru_cache(maxsize=8)  # late updates are of several rounds
def _drawn(vector: Vector, count: int) -> Positions:
    """Return ``count`` positions, ascending, which the same seed draws for everybody."""
    rng = stream(vector.seed, "randk")
    drawn = rng.choice(vector.size, count, replace=False, shuffle=False)
    return np.sort(drawn).astype(np.int64)
