"""Weighted sums of updates, block by block, in float64 and in client order."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import write_block
from fedcli.aggregation.blocks import (
    Block,
    BlockSource,
    Reader,
    TensorSlice,
    blocks_of,
    reduce_blocks,
)
from fedcli.aggregation.buffer_limits import NO_LIMITS, BufferLimits
from fedcli.aggregation.nonfinite import nonfinite_error
from fedcli.aggregation.updates import Seen, Update, UpdateValues, chunk_of
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.decoder import Moved
from fedcli.formats.dtypes import Array, Values, as_float
from fedcli.progress import Progress
from fedcli.strategies.decision import Decision, LinearDecision, Shares
from fedcli.strategies.ranks import median

BaseValues = Mapping[int, Values]
Watch = Callable[[Seen], None]


def weighted_sum(
    block: Block,
    reader: Reader,
    sources: Sequence[UpdateValues],
    factors: Sequence[float],
    watch: Watch | None = None,
) -> Values:
    """Return Σ f_i y_i over the sources in order, in float64; ``watch`` receives each y_i.

    Of sparse updates, f_i (y_i - x) is added where they move the base model x, and at the end x
    once for all of them.
    """
    total = reader.scratch.array("total", block.size, np.float64)
    term = reader.scratch.array("term", block.size, np.float64)
    few: list[tuple[int, float, Array]] = []
    for index, (source, factor) in enumerate(zip(sources, factors, strict=True)):
        seen = source.seen(block, reader)
        if isinstance(seen, Moved):
            if not index:
                total[...] = 0
            np.add.at(total, seen.at, factor * seen.by)  # quicker than indexing
            few.append((source.number, factor, seen.base))
        else:
            # Widening before multiplying is faster than letting numpy do both at once. The first
            # product is not added to 0, which would turn -0 into 0.
            product = term if index else total
            np.copyto(product, seen)
            if factor != 1:
                np.multiply(product, factor, out=product)
            if index:
                np.add(total, term, out=total)
        if watch is not None:
            watch(seen)
    _add_once(total, term, few)
    return total


def _add_once(total: Values, term: Values, terms: Sequence[tuple[int, float, Array]]) -> None:
    """Add Σ f x, with equal x, which have equal keys, multiplied only once."""
    factors: dict[int, float] = {}
    for key, factor, _ in terms:
        factors[key] = factors.get(key, 0.0) + factor
    values = {key: x for key, _, x in terms}
    for key, factor in factors.items():
        np.copyto(term, values[key])
        np.multiply(term, factor, out=term)
        np.add(total, term, out=total)


def values_at(seen: Seen, place: slice) -> Array:
    """Return an update's values at a place, as a copy."""
    return seen.values(place) if isinstance(seen, Moved) else seen[place].copy()


def largest(reader: Reader, sources: Sequence[BlockSource]) -> Array:
    """Return the largest values of the sources in their own dtype, which is how integers combine.

    A counter such as BatchNorm's ``num_batches_tracked`` is the number of batches seen. A mean
    would need rounding, and a float64 cannot hold every int64. The maximum never decreases from
    round to round, and for one client it is that client's value.
    """
    result = reader.read(sources[0]).copy()
    for source in sources[1:]:
        np.maximum(result, reader.read(source), out=result)
    return result


def dropped(decision: Decision, updates: Sequence[Update]) -> list[BlockSource]:
    """Return the values of the updates that a decision does not use."""
    kept = set(decision.kept)
    return [update.values for index, update in enumerate(updates) if index not in kept]


def values_of(sources: Sequence[BlockSource], block: Block) -> list[Array]:
    """Return the values of a block in sources that are not hashed while they are read."""
    found = []
    for source in sources:
        values = np.empty(block.size, source.dtype(block))
        source.read(block, values)
        found.append(as_float(values))
    return found


def add_up(
    base: Base,
    updates: Sequence[Update],
    factors: Sequence[float],
    writer: CheckpointWriter,
    progress: Progress,
) -> None:
    """Write a partial mean: Σ f_i y_i in float64, and the maximum of integers.

    Partial means among the updates are weighted already and enter unchanged.
    """
    factors = [1.0 if u.members else f for u, f in zip(updates, factors, strict=True)]
    sources = [update.values for update in updates]

    def reduce(block: Block, reader: Reader) -> Array:
        if block.counters:
            return largest(reader, sources)
        total = weighted_sum(block, reader, sources, factors)
        if not np.isfinite(total).all():
            raise nonfinite_error(base, updates, block, total)
        return total.copy()

    blocks = blocks_of(base.layout, base.roles, chunk=chunk_of(updates))
    progress.start(f"adding up {len(updates)} updates", len(blocks))
    with closing(reduce_blocks(sources, blocks, reduce)) as done:
        for block, values in done:
            write_block(writer, block, values)
            progress.advance()


def _lowest_terms(shares: Shares) -> Shares:
    """Cancel the common factor of integer weights, so that equal clients have weight 1."""
    numbers = [*shares.weights.tolist(), shares.divisor]
    if not all(number.is_integer() for number in numbers):
        return shares
    common = math.gcd(*map(int, numbers))
    return Shares(shares.weights / common, shares.divisor / common)


class LinearSum:
    """The sum that a ``LinearDecision`` describes, in float64 and in client order.

    Σ w_i y_i is divided only at the end: products of float32 values and numbers of examples are
    exact, so that only the additions round. The base models are then added with the coefficients
    that are missing from x + Σ c_i (y_i - x_i).
    """

    def __init__(
        self,
        base: Base,
        decision: LinearDecision,
        updates: Sequence[Update],
        limits: BufferLimits = NO_LIMITS,
    ) -> None:
        """``updates`` are all of them; those whose weight is 0 give only their buffers."""
        kept = [updates[index] for index in decision.kept]
        self._dropped = dropped(decision, updates)
        self._limits = limits
        shares = decision.shares
        if not any(update.members for update in kept):
            shares = _lowest_terms(shares)
        weights = shares.weights[list(decision.kept)].tolist()
        self._sources = [update.values for update in kept]
        # The values of a partial mean are weighted already.
        self._factors = [1.0 if u.members else w for u, w in zip(kept, weights, strict=True)]
        self._divisor = shares.divisor
        self._weights, self._weight = weights, sum(weights)
        self._center = decision.center
        self._median_buffers = decision.median_buffers
        lacking = {base.round.number: shares.divisor}
        bases = {base.round.number: base}
        for update, weight in zip(kept, weights, strict=True):
            number = update.base.round.number
            lacking[number] = lacking.get(number, 0.0) - weight
            bases[number] = update.base
        self._coefficients = {n: left / shares.divisor for n, left in lacking.items() if left}
        self.bases = {number: bases[number] for number in self._coefficients}

    def combine(
        self, block: Block, reader: Reader, base_values: BaseValues, state: Mapping[str, Values]
    ) -> Values:
        """Return the combined values of a block, in memory that the next block reuses."""
        total = self._sum(block, reader)
        self._add_bases(block, total, base_values, state)
        return total

    def _sum(self, block: Block, reader: Reader) -> Values:
        """Add up the updates; the base models of parameters are still missing."""
        watched = [part for part in block.others if self._watches(part)]
        copies: list[list[Array]] = [[] for _ in watched]

        def remember(seen: Seen) -> None:
            for own, part in zip(copies, watched, strict=True):
                own.append(values_at(seen, part.place))

        total = weighted_sum(
            block, reader, self._sources, self._factors, remember if watched else None
        )
        combined = [(place, total[place] / self._weight) for place in block.buffers]
        combined += [
            (part.place, self._combined(block, part, own))
            for part, own in zip(watched, copies, strict=True)
        ]
        np.divide(total, self._divisor, out=total)
        for place, values in combined:
            total[place] = values
        return total

    def _watches(self, part: TensorSlice) -> bool:
        return self._median_buffers or self._limits.applies_to(part.name)

    def _combined(self, block: Block, part: TensorSlice, copies: list[Array]) -> Values:
        """Combine a buffer from the kept updates' values: median of all, or limited mean."""
        if self._median_buffers:
            return median(np.stack([*copies, *values_of(self._dropped, block.only(part))]))
        values = self._limits.applied(part.name, np.stack(copies).astype(np.float64))
        total: Values = np.zeros(len(values[0]))
        for weight, row in zip(self._weights, values, strict=True):
            total += weight * row
        total /= self._weight
        return total

    def _add_bases(
        self, block: Block, total: Values, base_values: BaseValues, state: Mapping[str, Values]
    ) -> None:
        """Add the base models with their missing coefficients, and the center."""
        kept = [total[place].copy() for place in block.buffers]
        for number, coefficient in self._coefficients.items():
            total += coefficient * base_values[number]
        if self._center:
            total += self._center * state["center"]
        for place, values in zip(block.buffers, kept, strict=True):
            total[place] = values
