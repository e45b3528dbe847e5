"""Comparison of two checkpoints, tensor by tensor, with one piece of each in memory."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.dtypes import DTYPE_NAMES, Array
from fedcli.formats.tensor_stats import as_values, pieces


@dataclass(frozen=True)
class Difference:
    """How two tensors of equal shape, x and y, differ.

    ``different`` counts values, ``largest`` is max |xᵢ - yᵢ|. ``squares`` is ‖x - y‖²; ``first``,
    ``second`` and ``product`` are x·x, y·y and x·y, all in float64.
    """

    values: int
    different: int
    largest: float
    squares: float
    first: float
    second: float
    product: float

    @property
    def relative(self) -> float | None:
        """‖x - y‖ / ‖x‖; None where x is 0."""
        return math.sqrt(self.squares / self.first) if self.first > 0 else None


def difference(one: TensorFile, other: TensorFile, name: str) -> Difference:
    """Compare two tensors of this name and equal shape; their dtypes may differ."""
    same = one.layout[name].dtype == other.layout[name].dtype
    sums, largest, different = np.zeros(4), 0.0, 0
    for x, y in zip(pieces(one, name), pieces(other, name), strict=True):
        a, b = as_values(x), as_values(y)
        unequal = _bits(x) != _bits(y) if same else a != b
        count = int(np.count_nonzero(unequal))
        with np.errstate(invalid="ignore", over="ignore"):
            if count:
                gap = a - b
                largest = max(largest, _largest(gap[unequal]))
                sums[0] += gap @ gap
            sums[1:] += a @ a, b @ b, a @ b
        different += count
    values = math.prod(one.layout[name].shape)
    return Difference(values, different, largest, *sums.tolist())


def _bits(values: Array) -> NDArray[np.uint64]:
    return values.view(f"<u{values.dtype.itemsize}")


def _largest(gap: NDArray[np.float64]) -> float:
    """Return the largest magnitude; infinity if one side is finite and the other is not."""
    return float(np.max(np.abs(np.nan_to_num(gap, nan=math.inf))))


def first_difference(expected: TensorFile, found: TensorFile) -> str | None:
    """Say in which tensor two checkpoints differ first, and by how much; None where in none."""
    for name, info in expected.layout.items():
        other = found.layout.get(name)
        if other is None:
            return f"tensor {name!r} is missing"
        for what, one, two in (
            ("shape", list(info.shape), list(other.shape)),
            ("dtype", DTYPE_NAMES[info.dtype], DTYPE_NAMES[other.dtype]),
        ):
            if one != two:
                return f"tensor {name!r}: {what} {one}, then {two}"
        gap = difference(expected, found, name)
        if gap.different:
            return (
                f"tensor {name!r} is the first that differs: {gap.different} of {gap.values}"
                f" values, by up to {gap.largest:.3g}"
            )
    more = sorted(found.layout.keys() - expected.layout.keys())
    return f"tensor {more[0]!r} is new" if more else None
