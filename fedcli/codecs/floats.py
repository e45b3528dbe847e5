"""Floats of a smaller dtype as bytes, and ``float16``: every step in half precision."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import Bytes, Chunk, Codec, Encoded, Steps, Table, Vector, check_finite

_DTYPES: dict[str, np.dtype[np.floating]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
FLOATS = tuple(_DTYPES)


def dtype_of(name: str) -> np.dtype[np.floating]:
    """Return the dtype of values that are sent."""
    return _DTYPES[name]


def write_floats(steps: Steps, dtype: str) -> Bytes:
    """Round steps to a dtype, to nearest even. Raises ``ValueError`` for those that overflow."""
    with np.errstate(over="ignore"):
        values = steps.astype(dtype_of(dtype))
    if not np.isfinite(values).all():
        raise ValueError(f"its largest value, {np.abs(steps).max():g}, does not fit {dtype}")
    return values.view(np.uint8)


def read_floats(data: Bytes, dtype: str) -> Steps:
    """Return the values as float32."""
    return data.view(dtype_of(dtype)).astype(np.float32)


@dataclass(frozen=True)
class Float16(Codec):
    """Send every step in half precision (IEEE 754 binary16)."""

    name: ClassVar[str] = "float16"

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        table = np.zeros((vector.chunks, self.columns), np.int32)
        return Encoded(table, write_floats(steps, "float16"), np.zeros(0, np.float32))

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        return 2 * vector.chunk_sizes

    def scale_count(self, vector: Vector) -> int:
        """Return 0."""
        return 0

    def decode(self, chunk: Chunk, into: Steps) -> None:
        """See ``Codec``."""
        into[...] = read_floats(chunk.data, "float16")
