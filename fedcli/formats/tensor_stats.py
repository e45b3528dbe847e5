"""Statistics of tensors in files, read piece by piece."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.dtypes import Array, as_float

_PIECE = 1 << 16  # values


def pieces(file: TensorFile, name: str) -> Iterator[Array]:
    """Yield the values of a tensor in order, as flat pieces. Raises what reading it does."""
    info = file.layout[name]
    count, item = math.prod(info.shape), info.dtype.itemsize
    for first in range(0, count, _PIECE):
        values = np.empty(min(_PIECE, count - first), info.dtype)
        file.read_into(values.view(np.uint8).data, info.start + first * item)
        yield values


def as_values(values: Array) -> NDArray[np.float64]:
    """Return the values of a tensor of any dtype in float64."""
    return as_float(values).astype(np.float64)


@dataclass(frozen=True)
class Figures:
    """Statistics of a tensor's values.

    ``norm`` is the Euclidean norm, None if it is NaN or infinite; ``least`` and ``greatest`` are of
    the finite values, None without any; ``not_finite`` counts the others.
    """

    norm: float | None
    least: float | None
    greatest: float | None
    not_finite: int


def figures(file: TensorFile, name: str, see: Callable[[Array], None] | None = None) -> Figures:
    """Read a tensor once and compute its statistics; ``see`` receives each piece."""
    squares, least, greatest, not_finite = 0.0, math.inf, -math.inf, 0
    for piece in pieces(file, name):
        if see is not None:
            see(piece)
        values = as_values(piece)
        finite = values[np.isfinite(values)]
        not_finite += values.size - finite.size
        if finite.size:
            least, greatest = min(least, finite.min()), max(greatest, finite.max())
        with np.errstate(over="ignore"):
            squares += float(finite @ finite)
    norm = None if not_finite or math.isinf(squares) else math.sqrt(squares)
    some = least <= greatest
    return Figures(
        norm, float(least) if some else None, float(greatest) if some else None, not_finite
    )
