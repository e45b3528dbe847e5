"""The noisy sum of clipped steps, block by block, in integers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.blocks import Block, Reader
from fedcli.aggregation.updates import Update
from fedcli.aggregation.weighted_sums import BaseValues
from fedcli.formats.dtypes import Array, Values, as_float
from fedcli.strategies.decision import ClippedDecision


class ClippedSum:
    """The sum that a ``ClippedDecision`` describes.

    On a grid, sums are exact and do not depend on the order of clients, so that the result tells
    no more than the noisy sum does. Without noise, they are float64 in client order.
    """

    def __init__(self, base: Base, decision: ClippedDecision, updates: Sequence[Update]) -> None:
        self._terms = [
            (update.values, factor)
            for update, factor in zip(updates, decision.factors.tolist(), strict=True)
            if factor
        ]
        self._noise = decision.noise
        self._number = base.round.number
        self._scale = 1.0 if self._noise is None else self._noise.grid  # a power of two
        self._divisor = decision.divisor
        self._first = _first_coordinates(base)
        self.bases = {base.round.number: base}

    def combine(
        self, block: Block, reader: Reader, base_values: BaseValues, _: Mapping[str, Values]
    ) -> Values:
        """Return the next values of the parameters of a block, float64."""
        base = base_values[self._number]
        total = self._total(block, reader, base)
        if self._noise is not None:
            first = self._first[block.parts[0].name] + block.parts[0].first
            total += self._noise.draw(first, first + block.size)
        result: Values = base + total * (self._scale / self._divisor)
        return result

    def _total(self, block: Block, reader: Reader, base: Values) -> Array:
        """Return Σ f_i Δ_i in units of the grid: int64, or float64 without noise."""
        dtype = np.float64 if self._noise is None else np.int64
        total = reader.scratch.array("total", block.size, dtype)
        term = reader.scratch.array("term", block.size, np.float64)
        units = reader.scratch.array("units", block.size, dtype)
        total[...] = 0
        for source, factor in self._terms:
            np.subtract(as_float(reader.read(source)), base, out=term)
            np.multiply(term, factor / self._scale, out=term)
            np.copyto(units, term, casting="unsafe")  # towards zero
            np.add(total, units, out=total)
        return total


def _first_coordinates(base: Base) -> dict[str, int]:
    """Return where each parameter starts in the vector of all that updates hold."""
    found, first = {}, 0
    for name in base.parameters():
        found[name] = first
        first += math.prod(base.layout[name].shape)
    return found
