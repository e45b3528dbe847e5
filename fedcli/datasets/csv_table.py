"""CSV files as spreadsheets write them: with commas, semicolons or tabs, in UTF-8."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import DataError, UsageError
from fedcli.storage.atomic import storage_errors

_MOST_BYTES = 1_000_000_000


@dataclass(frozen=True)
class CsvTable:
    """The rows of a file, each with the number of its line and one cell for each column."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, name: str, option: str) -> int:
        """Return where a column is that ``option`` names. Raises ``UsageError``."""
        if self.header.count(name) == 1:
            return self.header.index(name)
        found = "two columns" if name in self.header else "no column"
        raise UsageError(
            f"{option} {name}: {self.path}: line 1: {found} of that name; the columns are:"
            f" {', '.join(self.header)}"
        )

    def usual_column(self, names: Collection[str]) -> int | None:
        """Return where the first of these columns is, in any case of letters, or None."""
        lowered = [name.lower() for name in self.header]
        return next((lowered.index(name) for name in names if name in lowered), None)


def read_table(path: Path) -> CsvTable:
    """Read a CSV file; empty lines are passed over, and cells are stripped.

    Raises ``DataError`` for a file that is not CSV in UTF-8, or has rows of another length than
    its header, and ``StorageError``.
    """
    try:
        with storage_errors("read", path), path.open(newline="", encoding="utf-8-sig") as file:
            if path.stat().st_size > _MOST_BYTES:
                raise DataError("is larger than 1 GB, too large for a table of labels", path=path)
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            header = tuple(cell.strip() for cell in next(reader, []))
            rows = [
                (reader.line_num, tuple(cell.strip() for cell in row))
                for row in reader
                if any(cell.strip() for cell in row)
            ]
    except UnicodeDecodeError as error:
        raise DataError(f"not a CSV file in UTF-8: {error.reason}", path=path) from None
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: not CSV: {error}", path=path) from None
    table = CsvTable(path, header, tuple(rows))
    width = len(header)
    raise_all(
        table,
        [
            f"line {line}: expected {width} columns, found {len(row)}"
            for line, row in rows
            if len(row) != width
        ],
    )
    return table


def raise_all(table: CsvTable, faults: list[str], before: str = "") -> None:
    """Raise one ``DataError`` that names the first of many faulty lines, and their number."""
    if faults:
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise DataError(f"{before}{'; '.join(faults[:10])}{more}", path=table.path)
