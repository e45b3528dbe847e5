"""Distances between many updates, in memory that a person can foresee.

n updates have n² / 2 distances. They are computed in float64 and held in float32, which tells
nearly all updates apart; those that are almost tied are measured again in float64.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcli.aggregation.panels import Panels
from fedcli.errors import OutOfMemoryError
from fedcli.formats.dtypes import Values
from fedcli.progress import Progress
from fedcli.strategies.selection import ROUNDING
from fedcli.system import available_memory

_BESIDE = 150_000_000  # bytes: a panel, its products, and the rows that are compared


class PanelDistances:
    """The squared distances |Δ_i - Δ_j|² between all pairs of updates; see ``Distances``."""

    def __init__(self, panels: Panels, progress: Progress) -> None:
        """Measure them, and hash the updates. Raises ``UpdateError``."""
        self._panels = panels
        self._squares = np.zeros(len(panels))
        self._later: dict[int, NDArray[np.float32]] = {}
        progress.start("measuring the updates", len(panels.panels))
        for first, products in panels.later_products():
            count = len(products)
            self._squares[first : first + count] = products.diagonal()
            with np.errstate(over="ignore"):  # infinite distances are compared again
                self._later[first] = self._distances(products, first).astype(np.float32)
            progress.advance()

    def __len__(self) -> int:
        return len(self._squares)

    def _distances(self, products: Values, first: int) -> Values:
        """Turn the products of a panel with all later updates into distances."""
        own, later = self._squares[first : first + len(products)], self._squares[first:]
        products *= -2
        for row, square in zip(products, own, strict=True):
            row += later + square
            row[row <= ROUNDING * (later + square)] = 0
        return products

    @property
    def squares(self) -> Values:
        """The squares |Δ_i|², which bound the rounding of distances."""
        return self._squares

    @property
    def panels(self) -> range:
        """The first rows of panels."""
        return self._panels.panels

    def rows(self, first: int) -> NDArray[np.float32]:
        """Return the distances of a panel of rows to all updates, (rows, n)."""
        count = len(self._later[first])
        before = [
            self._later[start][:, first - start : first - start + count].T
            for start in self.panels
            if start < first
        ]
        return np.hstack([*before, self._later[first]])

    def exact_rows(self, which: Sequence[int]) -> Values:
        """Measure the distances of some updates to all again, (rows, n) in float64."""
        return self._panels.distances(which)


def check_distances_fit(rule: str, count: int) -> None:
    """Raise ``OutOfMemoryError`` if the distances between so many updates fit into no memory."""
    _check(rule, count, 2 * count * count, f"{count:,}² / 2 distances of 4 bytes")


def check_gram_fits(rule: str, count: int, *, ordered: bool) -> None:
    """Raise ``OutOfMemoryError`` if the inner products of so many updates fit into no memory.

    With ``ordered``, the order of all distances is beside them.
    """
    each, what = 8, "inner products of 8 bytes"
    if ordered:
        each += np.min_scalar_type(count).itemsize
        what = f"inner products and their order, {each} bytes each"
    _check(rule, count, each * count * count, f"{count:,}² {what}")


def _check(rule: str, count: int, needed: int, what: str) -> None:
    there = available_memory()
    if there is None or needed + _BESIDE <= there:
        return
    raise OutOfMemoryError(
        f"{rule} of {count:,} updates needs {what}, {_gigabytes(needed)}, and"
        f" {_gigabytes(_BESIDE)} beside them; {_gigabytes(there)} are available",
        hint="sample clients with --clients-per-round, or choose a rule that compares no pairs,"
        " such as --strategy median",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
