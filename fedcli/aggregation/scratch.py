"""Memory that threads reuse from block to block."""

import math
import threading
from typing import Any

import numpy as np

from fedcli.formats.dtypes import Array


class Scratch(threading.local):
    """Memory that each thread reuses: touching fresh memory is slow."""

    def __init__(self) -> None:
        self._memory: dict[str, bytearray] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return an array that keeps its values until the next call with the same name."""
        count = shape if isinstance(shape, int) else math.prod(shape)
        size = max(1, count * np.dtype(dtype).itemsize)
        if len(self._memory.get(name, b"")) < size:
            self._memory[name] = bytearray(size)
        return np.frombuffer(self._memory[name], dtype, count).reshape(shape)
