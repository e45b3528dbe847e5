"""Compare each update with the others and with the new global model."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import BlockFile, WrittenBlocks
from fedcli.aggregation.blocks import Block, BlockSource, Reader, blocks_of, reduce_blocks
from fedcli.aggregation.gram import open_base_models
from fedcli.aggregation.updates import Update, chunk_of
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.decoder import Moved
from fedcli.formats.dtypes import Array, Values, as_float, is_float
from fedcli.progress import Progress
from fedcli.strategies.decision import Decision, LinearDecision
from fedcli.strategies.ranks import median

# The median needs the values of all clients at once. Of so many consecutive coordinates, at most as
# many values, evenly spaced, are used: the median distance is an estimate for large models.
_SAMPLE = 2**16
# Pieces of inner products, so that the sums do not depend on how a model is cut into blocks. BLAS
# uses one thread for so few values.
_PIECE = 512
# Sampled values that are sorted at the same time, and updates whose values are then in memory in
# float64: few, since every thread holds them.
_SORTED = 2**15
_ROWS = 32


@dataclass(frozen=True)
class Diagnosis:
    """One update's figures, as in ``manifest.Contribution``; None if undefined."""

    norm: float | None
    cosine: float | None
    distance: float | None


class Comparison:
    """The sums over blocks from which the figures of updates follow."""

    def __init__(self, base: Base, updates: Sequence[Update]) -> None:
        self.updates = updates
        self.bases = {base.round.number: base, **{u.base.round.number: u.base for u in updates}}
        self._now = base.round.number
        self._total = np.zeros((len(updates) + 1, 3))  # the last row is the model's
        self._apart: dict[int, Values] = {}
        self.is_complete = False
        infos = [info for info in base.layout.values() if is_float(info.dtype)]
        count = sum(math.prod(info.shape) for info in infos)
        self._stride = max(1, -(-min(count, _SAMPLE) * len(updates) // _SAMPLE))

    def sums(
        self, block: Block, reader: Reader, bases: Mapping[int, BlockFile], model: Array
    ) -> Values:
        """Return |Δ|², Δ · step and |Δ - median|² for every update and for the model.

        ``model`` has the new global model's values of the block; ``bases`` are those of ``bases``,
        opened.
        """
        sums = np.zeros((len(self.updates) + 1, 3))
        if block.counters:
            return sums
        dtype = np.float64 if block.dtype == np.float64 else np.float32
        read = {n: reader.scratch.array(f"compared {n}", block.size, dtype) for n in bases}
        for number, values in read.items():
            reader.read_into(bases[number], values)
        step = _padded(reader, "step", block.size, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            _subtract(block, as_float(model), read[self._now], step)
            sums[-1, 0] = _products(step, step)
            sums[:-1] = self._rows(block, reader, read, step)
        return sums

    def _rows(
        self, block: Block, reader: Reader, bases: Mapping[int, Array], step: Array
    ) -> Values:
        sums, sampled = np.zeros((len(self.updates), 3)), self._sampled(block)
        size = len(range(*sampled.indices(block.size)))
        sample = reader.scratch.array("sample", (len(self.updates), size), step.dtype)
        difference = _padded(reader, "term", block.size, step.dtype)  # that of a sum is free again
        for index, update in enumerate(self.updates):
            seen = update.values.seen(block, reader)
            if isinstance(seen, Moved):
                moved = seen.without(block.buffers)
                sums[index, :2] = moved.by @ moved.by, moved.by @ step[moved.at]
                _sample_moved(moved, sampled, sample[index])
            else:
                _subtract(block, seen, bases[update.base.round.number], difference)
                sums[index, 0] = _products(difference, difference)
                sums[index, 1] = _products(difference, step)
                sample[index] = difference[sampled]
        sums[:, 2] = self._distances(sample)
        return sums

    def _sampled(self, block: Block) -> slice:
        """Return which values of a block the distances are estimated from."""
        first = -(block.start // block.dtype.itemsize) % self._stride
        return slice(first, block.size, self._stride)

    def _distances(self, sample: Array) -> Values:
        """Return |Δ - median|² as estimated from a sample."""
        middle, width = np.empty(sample.shape[1]), max(1, _SORTED // len(sample))
        for first in range(0, len(middle), width):
            place = slice(first, first + width)
            middle[place] = median(sample[:, place].copy())
        squares = np.empty(len(sample))
        for first in range(0, len(sample), _ROWS):
            apart = sample[first : first + _ROWS] - middle
            np.multiply(apart, apart, out=apart)
            apart.sum(axis=1, out=squares[first : first + _ROWS])
        squares *= self._stride
        return squares

    def watch(self, block: Block, values: Array, bases: Sequence[Values]) -> None:
        """See the values of all updates (n, size) and of their base models, for ``infer``."""
        chosen = np.arange(*self._sampled(block).indices(block.size))
        sample = np.empty((len(values), len(chosen)), np.result_type(values.dtype, np.float32))
        for row, own, base in zip(sample, values, bases, strict=True):
            np.subtract(own[chosen], base[chosen], out=row, casting="same_kind")
        for place in block.buffers:
            sample[:, (chosen >= place.start) & (chosen < place.stop)] = 0
        self._apart[block.start] = self._distances(sample)

    def infer(self, gram: Values, decision: Decision) -> None:
        """Complete the sums from Δ_i · Δ_j, if the step is to be Σ w_i Δ_i + c · center.

        ``gram`` is that of ``gram_matrix``, which ``watch`` has watched.
        """
        if not isinstance(decision, LinearDecision):
            return
        count, shares = len(self.updates), decision.shares
        factors = np.append(shares.weights / shares.divisor, decision.center)[: len(gram)]
        with np.errstate(over="ignore", invalid="ignore"):
            products = gram @ factors
            self._total[:-1, 0] = gram.diagonal()[:count]
            self._total[:-1, 1] = products[:count]
            self._total[-1, 0] = products @ factors
        for _, apart in sorted(self._apart.items()):
            self._total[:-1, 2] += apart
        self.is_complete = True

    def add(self, sums: Values) -> None:
        """Add the sums of one more block."""
        self._total += sums

    def figures(self) -> list[Diagnosis]:
        """Return the figures of every update, once all blocks are added."""
        total = self._total
        with np.errstate(over="ignore", invalid="ignore"):
            norms, distances = np.sqrt(total[:, 0]), np.sqrt(total[:, 2])
            scale, undefined = norms[:-1] * norms[-1], np.full(len(self.updates), np.nan)
            cosines = np.divide(total[:-1, 1], scale, out=undefined, where=scale > 0)
        return [
            Diagnosis(*map(_six_digits, figures))
            for figures in zip(norms[:-1], np.clip(cosines, -1, 1), distances[:-1], strict=True)
        ]


def compare_with(
    model: CheckpointWriter, base: Base, comparison: Comparison, progress: Progress
) -> None:
    """Compare updates with a model that is written, in one more pass over all of them."""
    blocks = blocks_of(base.layout, base.roles, chunk=chunk_of(comparison.updates))
    progress.start("comparing the updates", len(blocks))
    with open_base_models(comparison.bases.values()) as bases:
        written = WrittenBlocks(model)

        def reduce(block: Block, reader: Reader) -> Values:
            values = reader.scratch.array("written", block.size, written.dtype(block))
            reader.read_into(written, values)
            return comparison.sums(block, reader, bases, values)

        values = [update.values for update in comparison.updates]
        sources: list[BlockSource] = [*bases.values(), written, *values]
        with closing(reduce_blocks(sources, blocks, reduce)) as reduced:
            for _, sums in reduced:
                comparison.add(sums)
                progress.advance()


def _six_digits(value: float) -> float | None:
    """Round so that the result rarely depends on the machine's order of summation."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _padded(reader: Reader, name: str, size: int, dtype: Any) -> Array:
    """Return an array for so many values, with zeros up to a whole number of pieces."""
    values = reader.scratch.array(name, -(-size // _PIECE) * _PIECE, dtype)
    values[size:] = 0
    return values


def _subtract(block: Block, values: Array, base: Array, into: Array) -> None:
    np.subtract(values, base, out=into[: block.size])
    for place in block.buffers:
        into[place] = 0


def _sample_moved(moved: Moved, sampled: slice, row: Array) -> None:
    row[:] = 0
    chosen = (moved.at - sampled.start) % sampled.step == 0
    row[(moved.at[chosen] - sampled.start) // sampled.step] = moved.by[chosen]


def _products(a: Array, b: Array) -> float:
    """Return the inner product; pieces are added in float64, and all of it if they overflow."""
    pieces = np.vecdot(a.reshape(-1, _PIECE), b.reshape(-1, _PIECE))
    product = float(np.add.reduce(pieces, dtype=np.float64))
    return product if np.isfinite(product) else float(a.astype(np.float64) @ b.astype(np.float64))
