"""The dtypes of safetensors as numpy dtypes, and their conversion to float64 and back.

numpy has no bfloat16; ``BFLOAT16``, a structured dtype of one field, stands for it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = NDArray[np.float64]

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether tensors of this dtype can be averaged."""
    return dtype == BFLOAT16 or dtype.kind == "f"


def as_float(values: Array) -> Array:
    """Return a ``BFLOAT16`` array as float32, any other array unchanged."""
    if values.dtype != BFLOAT16:
        return values
    return (values["bfloat16"].astype(np.uint32) << 16).view(np.float32)


def from_float(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """Round float64 values once, to nearest even, to a float dtype or ``BFLOAT16``."""
    if dtype != BFLOAT16:
        return values.astype(dtype)
    return _round_to_bfloat16(values)


def _round_to_bfloat16(values: NDArray[np.float64]) -> Array:
    # Rounding to odd in float32 first makes the second rounding act as the only one.
    near = values.astype(np.float32)
    bits = near.view(np.uint32).copy()
    inexact = near.astype(np.float64) != values
    away = np.abs(near.astype(np.float64)) > np.abs(values)
    bits = np.where(inexact, np.where(away, bits - 1, bits) | 1, bits)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isfinite(near), rounded, bits >> 16).astype(np.uint16).view(BFLOAT16)
