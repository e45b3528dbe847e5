"""Compare each update with the others and with the new global model."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import BlockFile, WrittenBlocks
from fedcli.aggregation.blocks import Block, BlockSource, Reader, blocks_of, reduce_blocks
from fedcli.aggregation.gram import open_base_models
from fedcli.aggregation.updates import Update, chunk_of
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.decoder import Moved
from fedcli.formats.dtypes import Array, Values, as_float, is_float
from fedcli.progress import Progress
from fedcli.strategies.ranks import median

# The median needs the values of all clients at once. Of so many consecutive coordinates, at most as
# many values, evenly spaced, are used: the median distance is an estimate for large models.
_SAMPLE = 2**16
# Pieces of inner products, so that the sums do not depend on how a model is cut into blocks.
_PIECE = 512


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
        sums = np.zeros((len(self.updates), 3))
        first = -(block.start // block.dtype.itemsize) % self._stride
        size = len(range(first, block.size, self._stride))
        sample = reader.scratch.array("sample", (len(self.updates), size), step.dtype)
        difference = _padded(reader, "difference", block.size, step.dtype)
        for index, update in enumerate(self.updates):
            seen = update.values.seen(block, reader)
            if isinstance(seen, Moved):
                moved = seen.without(block.buffers)
                sums[index, :2] = moved.by @ moved.by, moved.by @ step[moved.at]
                _sample_moved(moved, first, self._stride, sample[index])
            else:
                _subtract(block, seen, bases[update.base.round.number], difference)
                sums[index, 0] = _products(difference, difference)
                sums[index, 1] = _products(difference, step)
                sample[index] = difference[first : block.size : self._stride]
        apart = sample.astype(np.float64)
        apart -= median(sample)
        np.multiply(apart, apart, out=apart)
        sums[:, 2] = apart.sum(axis=1) * self._stride
        return sums

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
    with (
        open_base_models(comparison.bases.values()) as bases,
        threadpool_limits(limits=1, user_api="blas"),
    ):
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


def _sample_moved(moved: Moved, first: int, stride: int, row: Array) -> None:
    row[:] = 0
    sampled = (moved.at - first) % stride == 0
    row[(moved.at[sampled] - first) // stride] = moved.by[sampled]


def _products(a: Array, b: Array) -> float:
    """Return the inner product; pieces are added in float64, and all of it if they overflow."""
    pieces = np.vecdot(a.reshape(-1, _PIECE), b.reshape(-1, _PIECE))
    product = float(np.add.reduce(pieces, dtype=np.float64))
    return product if np.isfinite(product) else float(a.astype(np.float64) @ b.astype(np.float64))
