"""A table of plain text cells, how numbers are written in it, and how it is cut to fit."""

from dataclasses import dataclass, replace

from fedcli.reporting.sparkline import spread
from fedcli.text import printable

UNKNOWN = "–"


@dataclass(frozen=True)
class Table:
    """A table; the first column holds names, or round numbers, and ``note`` stands below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def percent(value: float | None) -> str:
    """Write a share in per cent with one decimal."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def megabytes(value: int | None) -> str:
    """Write bytes in MB (10^6 bytes), with more decimals below 1 MB."""
    if value is None:
        return UNKNOWN
    return f"{value / 1e6:.1f}" if value >= 1e6 or value == 0 else f"{value / 1e6:.3f}"


def decimal(value: float | None, digits: int) -> str:
    """Write a number with so many decimals."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def duration(value: float | None) -> str:
    """Write seconds, with a decimal where it tells something."""
    return decimal(value, 1 if value is not None and value < 100 else 0)


def count(value: int | None) -> str:
    """Write a whole number."""
    return UNKNOWN if value is None else str(value)


def visible(text: str) -> str:
    """Show control characters, which names in files may hold, as escapes."""
    return printable(text)


def has_values(table: Table) -> bool:
    """Say whether anything but the first column is known."""
    return any(cell != UNKNOWN for row in table.rows for cell in row[1:])


def without_empty(table: Table) -> Table:
    """Leave out the columns of which nothing is known."""
    keep = [
        i
        for i in range(len(table.columns))
        if i == 0 or any(row[i] != UNKNOWN for row in table.rows)
    ]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in table.rows),
    )


def first_rows(table: Table, limit: int) -> Table:
    """Cut a table after so many rows, and say so."""
    more = len(table.rows) - limit
    if more <= 0:
        return table
    return _with_note(replace(table, rows=table.rows[:limit]), f"{more} more; --csv has all")


def thinned(table: Table, limit: int) -> Table:
    """Show at most so many rows, evenly spread from the first to the last, and say so."""
    if len(table.rows) <= limit:
        return table
    rows = tuple(table.rows[i] for i in spread(len(table.rows), limit))
    text = f"{limit} of {len(table.rows)} rounds; --csv has all"
    return _with_note(replace(table, rows=rows), text)


def _with_note(table: Table, text: str) -> Table:
    return replace(table, note=f"{text}\n{table.note}" if table.note else text)
