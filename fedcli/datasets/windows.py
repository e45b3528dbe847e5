"""From pixel values of any range to 0 … 255: by the window of the run, which all clients share.

A window LOW,HIGH maps LOW … HIGH linearly to 0 … 255 and cuts off what lies outside, as radiology
does. Nothing is ever scaled by the values of one picture, which would differ between hospitals.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedcli.errors import UsageError
from fedcli.formats.dtypes import Array

Window = tuple[float, ...]  # low and high

_CHUNK = 1 << 22  # values converted at a time
_FEW_LEVELS = 1 << 13  # 16-bit pixels below this may be 10, 12 or 13 bits in 16
_DEPTHS = (255, 1023, 4095, 16383, 65535)


class RangeError(ValueError):
    """Pixel values from ``low`` to ``high`` that need a window; ``hint`` says what to type."""

    def __init__(self, low: float, high: float, why: str) -> None:
        super().__init__(why)
        self.low, self.high = low, high

    @property
    def hint(self) -> str:
        """What to type."""
        return advice(self.low, self.high)


def parse_window(text: str | None) -> Window | None:
    """Return the two numbers of ``--window``. Raises ``UsageError``."""
    if text is None:
        return None
    try:
        low, high = (float(number) for number in text.split(","))
        if not low < high or not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--window {text}: expected two numbers, the lower first, such as 0,4095 or -1000,400"
        ) from None
    return low, high


def spelled(window: Window) -> str:
    """Return a window as it is typed: "0,4095"."""
    return ",".join(f"{value:.15g}" for value in window)


def windowed(values: Array, window: Window) -> NDArray[np.uint8]:
    """Map LOW … HIGH to 0 … 255, rounded, and cut off what lies outside; any shape.

    Raises ``ValueError`` for values that are not numbers.
    """
    low, high = window
    flat = np.ascontiguousarray(values).reshape(-1)
    mapped = np.empty(flat.shape, np.uint8)
    for start in range(0, len(flat), _CHUNK):
        piece = flat[start : start + _CHUNK].astype(np.float64)
        if np.isnan(piece).any():
            raise ValueError("a value is not a number")
        share = (piece.clip(low, high) - low) / (high - low)
        mapped[start : start + _CHUNK] = np.rint(share * 255)
    return mapped.reshape(values.shape)


def proposal(low: float, high: float) -> str:
    """Return a window, as it is typed, for values from ``low`` to ``high``."""
    if low >= 0 and 1 < high <= _DEPTHS[-1]:
        return f"0,{next(depth for depth in _DEPTHS if high <= depth)}"
    return f"{low:.6g},{high:.6g}"


def advice(low: float, high: float) -> str:
    """Return what to type for values from ``low`` to ``high``."""
    return (
        "say which range counts, the same for all clients, when the run is made: --window LOW,HIGH,"
        f" such as --window {proposal(low, high)}"
    )


def without_window(values: Array) -> NDArray[np.uint8]:
    """Return the upper eight bits of 16-bit pixels.

    Raises ``RangeError`` for values outside of 16 bits, or that use few of their levels.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 1 << 16 or 0 < high < _FEW_LEVELS:
        levels = f"{low >> 8} to {high >> 8} of 255"
        found = levels if low >= 0 and high < 1 << 16 else "0 or 255 if they are cut off"
        why = f"its pixels lie between {low} and {high}, which would become {found}"
        raise RangeError(low, high, why)
    return (values >> 8).astype(np.uint8)
