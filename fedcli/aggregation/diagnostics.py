"""Compare each update with the others and with the new global model."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import BlockFile, WrittenBlocks
from fedcli.aggregation.blocks import Block, BlockSource, Reader, blocks_of, reduce_blocks
from fedcli.aggregation.gram import open_base_models
from fedcli.aggregation.updates import Update, chunk_of
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.decoder import Moved
from fedcli.formats.dtypes import Array, Values, as_float
from fedcli.progress import Progress
from fedcli.strategies.ranks import median

# The median needs the values of all clients at once. At most this many, evenly spaced, are used
# from each block, so the median distance is an estimate for large models.
_SAMPLE = 2**16


@dataclass(frozen=True)
class Diagnosis:
    """One update's figures, as in ``manifest.Contribution``; None if undefined."""

    norm: float | None
    cosine: float | None
    distance: float | None


def diagnose(
    base: Base, updates: Sequence[Update], model: CheckpointWriter, progress: Progress
) -> list[Diagnosis]:
    """Return the figures of every update; takes one more pass over all of them."""
    total = np.zeros((len(updates) + 1, 3))  # the last row is the model's
    own = {update.base.round.number: update.base for update in updates}
    blocks = blocks_of(base.layout, base.roles, chunk=chunk_of(updates))
    progress.start("comparing the updates", len(blocks))
    with (
        open_base_models({base.round.number: base, **own}.values()) as bases,
        threadpool_limits(limits=1, user_api="blas"),
    ):
        written = WrittenBlocks(model)

        def reduce(block: Block, reader: Reader) -> Values:
            return _compare(block, reader, bases, base.round.number, updates, written)

        sources: list[BlockSource] = [*bases.values(), written, *(u.values for u in updates)]
        with closing(reduce_blocks(sources, blocks, reduce)) as reduced:
            for _, sums in reduced:
                total += sums
                progress.advance()
    with np.errstate(over="ignore", invalid="ignore"):
        norms, distances = np.sqrt(total[:, 0]), np.sqrt(total[:, 2])
        scale = norms[:-1] * norms[-1]
        cosines = np.divide(total[:-1, 1], scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return [
        Diagnosis(*map(_six_digits, figures))
        for figures in zip(norms[:-1], np.clip(cosines, -1, 1), distances[:-1], strict=True)
    ]


def _six_digits(value: float) -> float | None:
    """Round so that the result rarely depends on the machine's order of summation."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _compare(
    block: Block,
    reader: Reader,
    bases: Mapping[int, BlockFile],
    now: int,
    updates: Sequence[Update],
    written: WrittenBlocks,
) -> Values:
    """Return |Δ|², Δ · step and |Δ - median|² for every update and for the model."""
    sums = np.zeros((len(updates) + 1, 3))
    if block.counters:
        return sums
    dtype = np.float64 if block.dtype == np.float64 else np.float32
    read = {n: reader.scratch.array(f"base {n}", block.size, dtype) for n in bases}
    for number, values in read.items():
        reader.read_into(bases[number], values)
    step, difference = (reader.scratch.array(n, block.size, dtype) for n in ("step", "difference"))
    stride = -(-block.size * len(updates) // _SAMPLE)
    sample = reader.scratch.array("sample", (len(updates), -(-block.size // stride)), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        _subtract(block, as_float(reader.read(written)), read[now], step)
        sums[-1, 0] = _dot(step, step)
        for index, update in enumerate(updates):
            seen = update.values.seen(block, reader)
            if isinstance(seen, Moved):
                moved = seen.without(block.buffers)
                sums[index, :2] = moved.by @ moved.by, moved.by @ step[moved.at]
                _sample_moved(moved, stride, sample[index])
            else:
                _subtract(block, seen, read[update.base.round.number], difference)
                sums[index, :2] = _dot(difference, difference), _dot(difference, step)
                sample[index] = difference[::stride]
        apart = sample.astype(np.float64)
        apart -= median(sample)
        np.multiply(apart, apart, out=apart)
        sums[:-1, 2] = apart.sum(axis=1) * (block.size / sample.shape[1])
    return sums


def _subtract(block: Block, values: Array, base: Array, into: Array) -> None:
    np.subtract(values, base, out=into)
    for place in block.buffers:
        into[place] = 0


def _sample_moved(moved: Moved, stride: int, row: Array) -> None:
    row[:] = 0
    sampled = moved.at % stride == 0
    row[moved.at[sampled] // stride] = moved.by[sampled]


def _dot(a: Array, b: Array) -> float:
    product = float(np.dot(a, b))
    return product if np.isfinite(product) else float(a.astype(np.float64) @ b.astype(np.float64))
