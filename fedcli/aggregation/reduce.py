"""Compute the next global model from the updates of a round, block by block."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from fedcli.aggregation.base_model import CONTROL, Base, slot_dtype
from fedcli.aggregation.block_files import BlockFile, write_block, write_copies
from fedcli.aggregation.blocks import (
    BLOCK_BYTES,
    Again,
    Block,
    BlockSource,
    Reader,
    blocks_of,
    reduce_blocks,
    threads_for,
)
from fedcli.aggregation.buffer_limits import NO_LIMITS, BufferLimits
from fedcli.aggregation.clipped_sum import ClippedSum
from fedcli.aggregation.diagnostics import Comparison
from fedcli.aggregation.gram import open_base_models, read_base_values
from fedcli.aggregation.nonfinite import nonfinite_error
from fedcli.aggregation.server_state import ServerState, write_state
from fedcli.aggregation.updates import Update, chunk_of
from fedcli.aggregation.weighted_sums import BaseValues, LinearSum, dropped, largest, values_of
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.dtypes import Array, Values, as_float, from_float
from fedcli.progress import Progress
from fedcli.strategies import Rule
from fedcli.strategies.decision import (
    ClippedDecision,
    CoordinateWiseDecision,
    Decision,
    LinearDecision,
    Step,
)
from fedcli.strategies.ranks import block_bytes, median, middle
from fedcli.strategies.server_optimizers import SlotValues

# Values that wait in memory for the result, to be compared with it, in all threads together.
_MOST_KEPT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Work:
    """The inputs for every block.

    Of the ``updates`` that are not ``kept``, only buffers and counters are read. With ``replaces``,
    the reducer's result is the next model.
    """

    base: Base
    rule: Rule
    decision: Decision
    updates: Sequence[Update]
    state: ServerState
    step: Step
    replaces: bool
    limits: BufferLimits = NO_LIMITS

    @property
    def kept(self) -> list[Update]:
        """The updates that the rule uses."""
        return [self.updates[index] for index in self.decision.kept]

    @property
    def suspects(self) -> list[Update]:
        """The updates that may be to blame for a result that is not finite."""
        return [] if isinstance(self.decision, ClippedDecision) else self.kept

    @property
    def sources(self) -> list[BlockSource]:
        """The values of the updates."""
        return [update.values for update in self.kept]

    @property
    def needs_base(self) -> bool:
        """Whether the computation reads the current model in addition to the updates."""
        return not self.replaces or "center" in self.state.slots


def reduce_updates(
    work: Work,
    model: CheckpointWriter,
    state: CheckpointWriter | None,
    progress: Progress,
    comparison: Comparison | None = None,
) -> None:
    """Write the tensors of the next global model and of the server state.

    Tensors that no update holds are copied bit by bit from the current model. The bytes depend
    on neither the number of threads nor the size of the blocks. Updates that have no digest yet
    are hashed; they are compared with the result while their values are in memory. Raises
    ``UpdateError`` for values that are not finite.
    """
    total, size, threads = _pace(work)
    chunk = chunk_of(work.updates) if total else None
    blocks = blocks_of(work.base.layout, work.base.roles, size, chunk)
    _copy_withheld(work.base, model)
    progress.start(f"combining {len(work.kept)} updates", len(blocks))
    with ExitStack() as opened:
        reduction = _Reduction(work, total, comparison, opened)
        again = Again.NEVER if comparison is None else again_for(work)
        done = reduce_blocks(reduction.sources, blocks, reduction.reduce, threads, again)
        for block, (values, slots, sums) in opened.enter_context(closing(done)):
            write_block(model, block, values)
            write_copies(model, block, values, work.base.tied)
            if state is not None:
                write_state(state, block, slots)
            if comparison is not None:
                comparison.add(sums)
            progress.advance()


def again_for(work: Work) -> Again:
    """Return how a block is read again once its result is there, to be compared with it.

    A block of every update is kept where they fit into memory. In smaller blocks, which rules that
    hold them all need too, 100 updates take 1.3 times as long as with a second pass. Of an encoded
    update that is sparse, at most 16 bytes are kept for each coordinate.
    """
    updates, encoded = work.updates, chunk_of(work.updates) is not None
    size = 4 * BLOCK_BYTES if encoded else BLOCK_BYTES
    if len(updates) * size * threads_for(0) <= _MOST_KEPT_BYTES:
        return Again.FROM_MEMORY
    stacked = isinstance(work.decision, CoordinateWiseDecision)
    if encoded or stacked or not all(update.values.keep_open for update in updates):
        return Again.NEVER
    return Again.FROM_FILE


class _Reduction:
    """Computes blocks of the next model; files that it opens are closed with ``opened``."""

    def __init__(
        self,
        work: Work,
        total: LinearSum | ClippedSum | None,
        comparison: Comparison | None,
        opened: ExitStack,
    ) -> None:
        self._work, self._total, self._comparison = work, total, comparison
        used = total.bases if total else {}
        if work.needs_base:
            used = {work.base.round.number: work.base, **used}
        self._bases = opened.enter_context(open_base_models(used.values()))
        self._compared: dict[int, BlockFile] = {}
        self.sources = [*work.sources, *self._bases.values(), *work.state.sources.values()]
        if comparison is not None:
            self._compared = opened.enter_context(open_base_models(comparison.bases.values()))
            every = [update.values for update in comparison.updates]
            self.sources += [values for values in every if values not in self.sources]

    def reduce(self, block: Block, reader: Reader) -> tuple[Array, dict[str, Array], Values]:
        """Return the values of a block of the model and of the state, and of the comparison."""
        work = self._work
        if block.counters:
            return _counters(work, block, reader), {}, np.zeros(())
        base_values = read_base_values(block, reader, self._bases)
        before = work.state.read(block, reader)
        if self._total is None:
            reduced = _stacked(work, block, reader)
        else:
            reduced = self._total.combine(block, reader, base_values, before)
        values, slots = _optimize(work, block, reduced, base_values, before)
        sums = np.zeros(())
        if self._comparison is not None:
            sums = self._comparison.sums(block, reader, self._compared, values)
        return values, slots, sums


def _pace(work: Work) -> tuple[LinearSum | ClippedSum | None, int, int]:
    """Return the sum (unless a rule is coordinate-wise), the bytes of a block, and the threads."""
    if isinstance(work.decision, ClippedDecision):
        clipped = ClippedSum(work.base, work.decision, work.updates)
        return clipped, BLOCK_BYTES, threads_for(0)
    if isinstance(work.decision, LinearDecision):
        linear = LinearSum(work.base, work.decision, work.updates, work.limits)
        return linear, BLOCK_BYTES, threads_for(0)
    size = block_bytes(len(work.kept))
    return None, size, threads_for(size * len(work.kept))


def _copy_withheld(base: Base, model: CheckpointWriter) -> None:
    if not base.withheld:
        return
    buffer = np.empty(BLOCK_BYTES, np.uint8)
    with base.open() as source:
        for name in base.withheld:
            start, stop = source.layout[name].start, source.layout[name].stop
            for first in range(start, stop, BLOCK_BYTES):
                piece = buffer[: min(BLOCK_BYTES, stop - first)]
                source.read_into(piece.data, first)
                model.write(piece, base.whole[name].start + first - start)


def _counters(work: Work, block: Block, reader: Reader) -> Array:
    """Combine integers: the maximum over the clients, or the lower median in a robust rule."""
    if isinstance(work.decision, LinearDecision) and not work.decision.median_buffers:
        return _largest(work, block, reader)
    stack = reader.scratch.array("stack", (len(work.updates), block.size), block.dtype)
    for row, update in zip(stack, work.updates, strict=True):
        reader.read_into(update.values, row)
    return middle(stack)


def _largest(work: Work, block: Block, reader: Reader) -> Array:
    result = largest(reader, work.sources)
    for part in block.parts:
        if (most := work.limits.most.get(part.name)) is not None:
            last = part.first + part.place.stop - part.place.start
            np.minimum(result[part.place], most[part.first : last], out=result[part.place])
    return result


def _stacked(work: Work, block: Block, reader: Reader) -> Values:
    """Combine a block by a coordinate-wise rule, with all values in memory at once."""
    assert isinstance(work.decision, CoordinateWiseDecision)
    dtype = np.float64 if block.dtype == np.float64 else np.float32
    stack = reader.scratch.array("stack", (len(work.kept), block.size), dtype)
    for row, source in zip(stack, work.sources, strict=True):
        reader.read_into(source, row)
    # A value that is not finite may hide among those that the rule ignores. The sum shows it and
    # is quicker, but may itself overflow.
    if not (np.isfinite(stack.sum()) or np.isfinite(stack).all()):
        raise nonfinite_error(work.base, work.kept, block, stack.sum(axis=0))
    medians = _medians(work, block, stack) if work.decision.median_buffers else []
    result = work.decision.combine(stack)
    for place, values in medians:
        result[place] = values
    return result


def _medians(work: Work, block: Block, stack: Array) -> list[tuple[slice, Values]]:
    """Return the median of every buffer over all updates; ``stack`` has those that are kept."""
    others = dropped(work.decision, work.updates)
    return [
        (
            part.place,
            median(np.vstack([stack[:, part.place], *values_of(others, block.only(part))])),
        )
        for part in block.others
    ]


def _optimize(
    work: Work, block: Block, reduced: Values, base_values: BaseValues, state: SlotValues
) -> tuple[Array, dict[str, Array]]:
    """Take the server optimizer's step; buffers keep the reducer's values.

    The reducer's result for the controls is added to the server's control variates.
    """
    result = reduced
    if work.needs_base:
        base = base_values[work.base.round.number]
        delta = reduced - base
        for place in block.buffers:
            delta[place] = 0
        if not work.replaces:
            result = base + work.rule.optimizer.step(
                delta.copy(), state, work.step, work.rule.options
            )
            for place in block.buffers:
                result[place] = reduced[place]
        if "center" in state:
            state["center"] = delta
    if CONTROL in state:
        for place in block.controls:
            state[CONTROL][place] += work.step.share * reduced[place]
    values = from_float(result, block.dtype)
    slots = {slot: values.astype(slot_dtype(block.dtype)) for slot, values in state.items()}
    for made in (as_float(values), *slots.values()):
        if not np.isfinite(made).all():
            raise nonfinite_error(work.base, work.suspects, block, made)
    return values, slots
