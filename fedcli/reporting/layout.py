"""Tables of plain text: columns, cells, how numbers are written, and how rows are cut to fit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from fedcli.reporting.sparkline import spread

UNKNOWN = "–"

Row = TypeVar("Row")
Other = TypeVar("Other")


class CellKind(Enum):
    """What the cells of a column hold, which decides how they are aligned and broken."""

    FIGURE = "figure"
    TEXT = "text"
    BARS = "bars"


class BestCell(str):
    """A cell that is the best of its column, or as good."""

    __slots__ = ()


@dataclass(frozen=True)
class Heading:
    """The head of a column; ``width`` is where a terminal breaks long names, in characters."""

    text: str
    kind: CellKind = CellKind.FIGURE
    width: int | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first column holds names or round numbers, and ``note`` stands below."""

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One quantity: ``value`` finds it in a row (None if unknown), by an attribute or a function.

    Tables show it below ``heading``, as ``show`` writes it, and explain it by ``legend`` below the
    table; the CSV holds it as it is, as ``measure``. A table or the CSV leaves out a column without
    a heading or measure. Where runs are compared, ``side_by_side`` is the title of a table with
    this quantity of every run, and ``summed`` its heading in the table of sums over rounds.
    """

    heading: str
    value: str | Callable[[Row], Any]
    show: Callable[[Any], str] = str
    measure: str = ""
    legend: str = ""
    kind: CellKind = CellKind.FIGURE
    side_by_side: str = ""
    summed: str = ""
    merit: Callable[[Row], float | None] | None = None

    def find(self, row: Row) -> Any:
        """Return the value of a row, None if unknown."""
        return attrgetter(self.value)(row) if isinstance(self.value, str) else self.value(row)

    def cell(self, row: Row) -> str:
        """Return the value of a row as tables show it."""
        value = self.find(row)
        return UNKNOWN if value is None else self.show(value)

    @property
    def head(self) -> Heading:
        """What stands above the column."""
        return Heading(self.heading, self.kind)

    def through(self, step: Callable[[Other], Row | None]) -> "Column[Other]":
        """Return the column for rows from which ``step`` leads to a row of this one, or to None."""

        def value(other: Other) -> Any:
            row = step(other)
            return None if row is None else self.find(row)

        def merit(other: Other) -> float | None:
            row = step(other)
            return None if row is None or self.merit is None else self.merit(row)

        same: Column[Any] = self
        return replace(same, value=value, merit=merit)


def tabulate(
    title: str,
    first: Heading,
    columns: Iterable[Column[Row]],
    rows: Iterable[tuple[str, Row]],
    *notes: str,
    keep_empty: bool = False,
) -> Table:
    """Lay out named rows, without the columns that nothing is known of, and explain the others."""
    shown = [column for column in columns if column.heading]
    names, found = zip(*named, strict=True) if (named := [*rows]) else ((), ())
    cells = zip(names, *(_cells(column, found) for column in shown), strict=True)
    table = Table(title, (first, *(column.head for column in shown)), tuple(cells))
    table = table if keep_empty else without_empty(table)
    left = [heading.text for heading in table.headings]
    legends = [column.legend for column in shown if column.legend and column.heading in left]
    return replace(table, note="; ".join([*legends, *notes]))


def _cells(column: Column[Row], rows: Sequence[Row]) -> list[str]:
    cells = [column.cell(row) for row in rows]
    merits = [column.merit(row) if column.merit else None for row in rows]
    known = [merit for merit in merits if merit is not None]
    if len(known) < 2:
        return cells
    best = max(known)
    return [
        BestCell(cell) if merit == best else cell for cell, merit in zip(cells, merits, strict=True)
    ]


def percent(value: float) -> str:
    """Write a share in per cent with one decimal."""
    return f"{100 * value:.1f}"


def megabytes(value: float) -> str:
    """Write bytes in MB (10^6 bytes), with more decimals below 1 MB."""
    return f"{value / 1e6:.1f}" if value >= 1e6 or value == 0 else f"{value / 1e6:.3f}"


def one_decimal(value: float) -> str:
    """Write a number with one decimal."""
    return f"{value:.1f}"


def three_decimals(value: float) -> str:
    """Write a number with three decimals."""
    return f"{value:.3f}"


def two_decimals(value: float) -> str:
    """Write a number with two decimals."""
    return f"{value:.2f}"


def significant(value: float) -> str:
    """Write a number of any size with three digits."""
    return f"{value:#.3g}".removesuffix(".")


def duration(value: float) -> str:
    """Write seconds, with one decimal below 100."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def has_values(table: Table) -> bool:
    """Return whether anything but the first column is known."""
    return any(cell != UNKNOWN for row in table.rows for cell in row[1:])


def without_empty(table: Table) -> Table:
    """Leave out the columns in which no cell is known."""
    keep = [
        i
        for i in range(len(table.headings))
        if i == 0 or any(row[i] != UNKNOWN for row in table.rows)
    ]
    return replace(
        table,
        headings=tuple(table.headings[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in table.rows),
    )


def first_rows(table: Table, limit: int) -> Table:
    """Cut a table after ``limit`` rows, and say so."""
    more = len(table.rows) - limit
    if more <= 0:
        return table
    return _with_note(replace(table, rows=table.rows[:limit]), f"{more} more; --csv has all")


def thinned(table: Table, limit: int) -> Table:
    """Keep at most ``limit`` rows, evenly spread from the first to the last, and say so."""
    if len(table.rows) <= limit:
        return table
    rows = tuple(table.rows[i] for i in spread(len(table.rows), limit))
    text = f"{limit} of {len(table.rows)} rounds; --csv has all"
    return _with_note(replace(table, rows=rows), text)


def _with_note(table: Table, text: str) -> Table:
    return replace(table, note=f"{text}\n{table.note}" if table.note else text)
