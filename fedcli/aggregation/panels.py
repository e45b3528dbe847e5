"""Inner products of many updates, some rows of their matrix at a time.

A panel of rows is multiplied with all later updates, block by block of the coordinates, so that
memory holds one panel and its products, not all of n². Every update is read once per panel.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.block_files import BlockFile
from fedcli.aggregation.blocks import Block, BlockSource, blocks_of, threads_for
from fedcli.aggregation.matrix_threads import one_matrix_thread
from fedcli.aggregation.nonfinite import nonfinite_values, overflow_error
from fedcli.aggregation.scratch import Scratch
from fedcli.aggregation.updates import Update
from fedcli.formats.dtypes import Array, Values, as_float

PANEL = 384  # updates; their products with 10,000 others are 31 MB
_PARTNERS = 128  # updates that a thread multiplies with a panel at a time
_BLOCK = 128 * 1024  # bytes of each update: a panel is 50 MB
_PIECE = 512  # values of each update that are multiplied at a time, in float64


@dataclass(frozen=True)
class Panels:
    """The differences Δ_i of updates to their base models, and of a center that is one already.

    ``bases`` are open base models, by the number of their round.
    """

    base: Base
    updates: Sequence[Update]
    bases: dict[int, BlockFile]
    center: BlockFile | None = None
    scratch: Scratch = field(default_factory=Scratch)

    def __len__(self) -> int:
        return len(self.updates) + (self.center is not None)

    @property
    def panels(self) -> range:
        """The first rows of panels."""
        return range(0, len(self), PANEL)

    def later_products(self) -> Iterator[tuple[int, Values]]:
        """Yield the first row of each panel, and its products with itself and all later rows.

        The last panel comes first, so that the squares of later rows are known. Each update is read
        whole and in order the first time, which hashes it. Raises ``UpdateError`` for values that
        are not finite.
        """
        for first in reversed(self.panels):
            rows = range(first, min(first + PANEL, len(self)))
            yield first, self.products(rows, range(first, len(self)))

    def products(self, rows: Sequence[int], columns: Sequence[int]) -> Values:
        """Return Δ_i · Δ_j for rows i and columns j, float64.

        Rows with which the columns begin are read once. The result does not depend on the number of
        threads. Raises ``UpdateError``.
        """
        return self._sum(rows, columns, _Stack.multiply)

    def distances(self, rows: Sequence[int]) -> Values:
        """Return |Δ_i - Δ_j|² for some rows i and all j, float64, straight from the differences.

        However long the steps are that updates share, this loses no precision.
        """
        return self._sum(rows, range(len(self)), _Stack.measure)

    def _sum(self, rows: Sequence[int], columns: Sequence[int], add: "_Add") -> Values:
        total = np.zeros((len(rows), len(columns)))
        threads = threads_for(0)
        with ThreadPoolExecutor(threads) as pool, one_matrix_thread():
            for block in blocks_of(self.base.layout, self.base.roles, _BLOCK):
                self._add_block(block, rows, columns, total, add, pool)
        return total

    def _add_block(
        self,
        block: Block,
        rows: Sequence[int],
        columns: Sequence[int],
        total: Values,
        add: "_Add",
        pool: ThreadPoolExecutor,
    ) -> None:
        bases = self._read_bases(block)
        own = self._read(block, rows, "panel", bases)
        held = len(rows) if columns[: len(rows)] == rows else 0

        def combine(first: int) -> None:
            last = min(first + _PARTNERS, held if first < held else len(columns))
            if first < held:
                others = own.part(first, last)
            else:
                others = self._read(block, columns[first:last], "partners", bases)
            if not block.counters:
                with np.errstate(over="ignore", invalid="ignore"):
                    add(own, others, total[:, first:last], self.scratch)

        list(pool.map(combine, [*range(0, held, _PARTNERS), *range(held, len(columns), _PARTNERS)]))
        if not np.isfinite(total).all():
            raise self._error(block, own, rows, columns)

    def _read_bases(self, block: Block) -> dict[int, Values]:
        found = {}
        for number, file in self.bases.items():
            values = np.empty(block.size, file.dtype(block))
            file.read(block, values)
            found[number] = np.zeros(0) if block.counters else as_float(values).astype(np.float64)
        return found

    def _read(
        self, block: Block, which: Sequence[int], name: str, bases: dict[int, Values]
    ) -> "_Stack":
        """Read a block of some updates."""
        dtype = block.dtype if block.counters or block.dtype == np.float64 else np.float32
        stack = self.scratch.array(name, (len(which), block.size), dtype)
        for row, index in zip(stack, which, strict=True):
            _read_row(self._source(index), block, row)
        own = [self._base_of(index, bases, block) for index in which]
        return _Stack(block, stack, own)

    def _source(self, index: int) -> BlockSource:
        if index < len(self.updates):
            return self.updates[index].values
        assert self.center is not None
        return self.center

    def _base_of(self, index: int, bases: dict[int, Values], block: Block) -> Values:
        if index < len(self.updates):
            return bases[self.updates[index].base.round.number]
        return np.zeros(block.size)

    def _error(
        self, block: Block, own: "_Stack", rows: Sequence[int], columns: Sequence[int]
    ) -> Exception:
        known = [self.updates[i] for i in columns if i < len(self.updates)]
        if (error := nonfinite_values(known, block)) is not None:
            return error
        squares = own.squares()
        farthest = int(np.argmax([values.sum() for values in squares]))
        return overflow_error(self.updates[rows[farthest]], block, squares[farthest])


def _read_row(source: BlockSource, block: Block, row: Array) -> None:
    if source.dtype(block) == row.dtype:
        source.read(block, row)
        return
    values = np.empty(block.size, source.dtype(block))
    source.read(block, values)
    np.copyto(row, as_float(values), casting="same_kind")


@dataclass(frozen=True)
class _Stack:
    """A block of some updates, (n, B) in its own dtype, and the base model of each."""

    block: Block
    values: Array
    bases: Sequence[Values]

    def part(self, first: int, last: int) -> "_Stack":
        return _Stack(self.block, self.values[first:last], self.bases[first:last])

    def multiply(self, others: "_Stack", total: Values, scratch: Scratch) -> None:
        """Add the products with the rows of another stack to ``total``."""
        for left, right in self._pieces(others, scratch):
            total += left @ right.T

    def measure(self, others: "_Stack", total: Values, scratch: Scratch) -> None:
        """Add the squared distances to the rows of another stack to ``total``."""
        for left, right in self._pieces(others, scratch):
            apart = scratch.array("apart", right.shape, np.float64)
            for own, sums in zip(left, total, strict=True):
                np.subtract(right, own, out=apart)
                sums += np.einsum("ij,ij->i", apart, apart)

    def _pieces(self, others: "_Stack", scratch: Scratch) -> Iterator[tuple[Values, Values]]:
        """Yield the differences of both stacks to their base models, some values at a time."""
        for start in range(0, self.block.size, _PIECE):
            place = slice(start, min(start + _PIECE, self.block.size))
            left = scratch.array("left", self._shape(place), np.float64)
            right = scratch.array("right", others._shape(place), np.float64)
            yield self._differences(place, left), others._differences(place, right)

    def _shape(self, place: slice) -> tuple[int, int]:
        return len(self.values), place.stop - place.start

    def _differences(self, place: slice, into: Values) -> Values:
        np.copyto(into, self.values[:, place])
        if all(base is self.bases[0] for base in self.bases):
            into -= self.bases[0][place]
        else:
            for row, base in zip(into, self.bases, strict=True):
                row -= base[place]
        for buffers in self.block.buffers:
            cut = slice(max(0, buffers.start - place.start), max(0, buffers.stop - place.start))
            into[:, cut] = np.where(np.isfinite(into[:, cut]).all(), 0, np.nan)
        return into

    def squares(self) -> list[Values]:
        with np.errstate(over="ignore", invalid="ignore"):
            pairs = zip(self.values, self.bases, strict=True)
            return [np.square(row - base) for row, base in pairs]


_Add = Callable[[_Stack, _Stack, Values, Scratch], None]
