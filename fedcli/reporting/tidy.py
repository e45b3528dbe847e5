"""The report as one tidy table, a row per measured value: as CSV and as Parquet.

Columns
    run         label of the run
    method      label of its method: runs that differ in seeds alone have the same
    settings    a column each: those of ``ALWAYS`` that a run has, and all that differ
    round       round number; 0 for how the examples were cut
    subject     what the value is about; see ``Measurement``
    client      ``client`` and its id, or ``all``
    class       ``class`` and its name, or ``all``
    measure     what was measured
    value       a number

A program that reads CSV guesses the type of a column, often in pieces. Therefore no text looks like
a number, a missing value or a truth value: ids and classes have a word before them, and so do the
values of every other column of text in which one would be misread. Only numbers can be missing.
Text is printable and no formula (``spreadsheet_text``).
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from fedcli.errors import MissingDependencyError
from fedcli.reporting.measurements import Measurement, judgements, measurements
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.settings import Setting, settings
from fedcli.text import spreadsheet_text

if TYPE_CHECKING:
    import pyarrow

ALWAYS = ("dataset", "model", "scheme", "alpha", "clients", "algorithm", "rule", "seed")
MEASURED = ("round", "subject", "client", "class", "measure", "value")
UNSET = "not set"
ALL = "all"
_READ_AS_OTHER = {"na", "n/a", "nan", "null", "none", "nil", "true", "false", "inf", "infinity"}


class SettingColumn(NamedTuple):
    """What one setting is in each run: numbers or None, or else text."""

    name: str
    values: tuple[Setting | None, ...]


def to_csv(report: Report) -> str:
    """Return the table as CSV with a header line; line ends are single newlines."""
    columns = [*_run_columns(report)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(column.name for column in columns), *MEASURED])
    for index, run in enumerate(report.runs):
        fixed = ["" if column.values[index] is None else column.values[index] for column in columns]
        writer.writerows([*fixed, *cells] for cells in _rows(report, run))
    return text.getvalue()


def to_parquet(report: Report) -> bytes:
    """Return the table as a Parquet file.

    Rounds are int32, measured values float64. Raises ``MissingDependencyError`` without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            "Parquet files are written by pyarrow, which is not installed",
            hint="pip install 'fedcli[parquet]'",
        ) from None
    columns = [*_run_columns(report)]
    tables = [
        _arrow_table(columns, index, [*_rows(report, run)]) for index, run in enumerate(report.runs)
    ]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), file)
    return file.getvalue()


def _arrow_table(
    columns: Sequence[SettingColumn], index: int, rows: list[tuple[Any, ...]]
) -> "pyarrow.Table":
    import pyarrow

    types = (pyarrow.int32(), *(pyarrow.string(),) * 4)
    fixed = {
        column.name: pyarrow.array([column.values[index]] * len(rows), _arrow_type(column))
        for column in columns
    }
    measured = {
        name: pyarrow.array([row[place] for row in rows], kind)
        for place, (name, kind) in enumerate(zip(MEASURED[:-1], types, strict=True))
    }
    values = pyarrow.array([float(row[-1]) for row in rows])  # an integer may not fit exactly
    return pyarrow.table(fixed | measured | {MEASURED[-1]: values})


def _arrow_type(column: SettingColumn) -> "pyarrow.DataType":
    import pyarrow

    types = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    kind = next(type(value) for value in column.values if value is not None)
    return types.get(kind, pyarrow.string())


def _rows(report: Report, run: RunReport) -> Iterator[tuple[Any, ...]]:
    return map(_cells, chain(measurements(run), judgements(report, run)))


def _cells(one: Measurement) -> tuple[Any, ...]:
    return (
        one.round,
        spreadsheet_text(one.subject),
        ALL if one.client is None else spreadsheet_text(f"client {one.client}"),
        ALL if one.class_name is None else spreadsheet_text(f"class {one.class_name}"),
        one.measure,
        one.value,
    )


def _run_columns(report: Report) -> Iterator[SettingColumn]:
    """Yield what each run is called, the settings always shown, and those that differ."""
    yield SettingColumn("run", _as_text("run", [run.label for run in report.runs]))
    methods = {run: method.label for method in report.methods for run in method.runs}
    labels = [methods.get(run.label, run.label) for run in report.runs]
    yield SettingColumn("method", _as_text("method", labels))
    found = [settings(run) for run in report.runs]
    for name in dict.fromkeys((*ALWAYS, *(name for one in found for name in one))):
        values = [one.get(name) for one in found]
        is_known = any(value is not None for value in values)
        if name not in ("run", "method", *MEASURED) and (
            is_known if name in ALWAYS else _differ(values)
        ):
            yield SettingColumn(name, _of_one_type(name, values))


def _differ(values: Sequence[Setting | None]) -> bool:
    return any(value != values[0] for value in values)


def _of_one_type(name: str, values: Sequence[Setting | None]) -> tuple[Setting | None, ...]:
    """Return numbers as they are, or truth values, and anything else as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return tuple(None if value is None else float(value) for value in values)
    if kinds == {bool}:
        return tuple(map(bool, values))  # what is off is not set
    if len(kinds) == 1 and kinds < {int, float}:
        return tuple(values)
    return _as_text(name, [UNSET if value is None else str(value) for value in values])


def _as_text(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts with a word before them, if a reader would take one for anything else."""
    texts = tuple(texts)
    if not all(map(_is_read_as_text, texts)):
        texts = tuple(f"{name.replace('_', ' ')} {text}" for text in texts)
    return tuple(map(spreadsheet_text, texts))


def _is_read_as_text(text: str) -> bool:
    return text[:1].isalpha() and text.casefold().strip() not in _READ_AS_OTHER
