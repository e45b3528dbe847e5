"""Steps as integers on a grid: q = rint(wΔ/g), so that sums are exact and free of order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcli.errors import FedcliError, UsageError
from fedcli.masking.masks import Integers, Words

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_CHUNK = 1 << 18  # values
_MOST_SUM = 1 << 31  # sums are int32


@dataclass(frozen=True)
class Grid:
    """The grid of a masked sum: values in ±clip, as integers of ``bits`` bits, of ``clients``.

    Raises ``UsageError`` unless n·2^(b−1) < 2³¹: no sum of n clients may wrap around.
    """

    clip: float
    bits: int
    clients: int

    def __post_init__(self) -> None:
        """Refuse a grid whose sums overflow."""
        if not 0 < self.clip < np.inf:
            raise UsageError(f"--secagg-clip: expected a number above 0, found {self.clip}")
        if self.bits < 2 or self.clients * self.largest >= _MOST_SUM:
            raise UsageError(
                f"--secagg-bits: expected 2 … {_most_bits(self.clients)} for {self.clients}"
                f" clients, found {self.bits}; their sum must stay below 2^31"
            )

    @property
    def largest(self) -> int:
        """The largest integer, 2^(b−1)."""
        return 1 << (self.bits - 1)

    @property
    def step(self) -> float:
        """The distance g of neighbouring values, clip / 2^(b−1)."""
        return self.clip / self.largest

    def quantise(self, values: Floats, weight: float = 1.0) -> "Quantised":
        """Return q = rint(wΔ/g), clipped to ±2^(b−1), and how many values were clipped.

        Raises ``FedcliError`` for NaN and infinity, which nobody could find in the masked sum.
        """
        found, clipped = np.empty(values.size, np.int32), 0
        for start in range(0, values.size, _CHUNK):
            part = np.multiply(values[start : start + _CHUNK], weight, dtype=np.float64)
            _check_finite(part)
            np.rint(np.divide(part, self.step, out=part), out=part)
            clipped += int(np.count_nonzero(np.abs(part) > self.largest))
            found[start : start + _CHUNK] = np.clip(part, -self.largest, self.largest)
        return Quantised(found, clipped)

    def mean(self, total: Words, divisor: float) -> npt.NDArray[np.float64]:
        """Return Σq·g/W of a sum modulo 2³², float64."""
        return total.view(np.int32).astype(np.float64) * self.step / divisor


@dataclass(frozen=True)
class Quantised:
    """Integers on a grid; ``clipped`` counts values beyond it, and concerns their owner only."""

    values: Integers
    clipped: int


def _check_finite(values: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        raise FedcliError(
            "the change to send is NaN or infinite, which no one could tell from its masked sum",
            hint="lower --lr, or train the round again",
        )


def _most_bits(clients: int) -> int:
    return ((_MOST_SUM - 1) // max(1, clients)).bit_length()
