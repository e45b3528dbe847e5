"""The report on a terminal: rich tables and sparklines that fit 80 columns."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fedcli.reporting.cells import (
    UNKNOWN,
    Table,
    decimal,
    first_rows,
    has_values,
    percent,
    thinned,
    visible,
)
from fedcli.reporting.client_tables import clients_table, participation_table, updates_table
from fedcli.reporting.model import Note, Report, RunReport
from fedcli.reporting.sparkline import curve
from fedcli.reporting.tables import (
    SIDE_BY_SIDE,
    classes_table,
    evaluations_table,
    heterogeneity_table,
    rounds_table,
    shown_rounds,
    side_by_side,
    summary_table,
    times_table,
)

_ROWS = 20
_ROWS_OF_MANY = 10
_COLUMNS = 4  # runs side by side in one table
_WIDTH = 80
_NAMES = {"method": 22, "run": 34}  # characters a line of a run's name, in these columns
_TEXT = (
    "method",
    "run",
    "evaluation",
    "client",
    "class",
    "device",
    "labels",
    "stands out",
    "cut by",
)


def render(report: Report) -> list[RenderableType]:
    """Return what a terminal shows of a report, from the top down."""
    parts: list[RenderableType] = [*map(_heading, report.runs), Text()]
    parts += [_draw(summary_table(report)), *_notes(report.notes), *_curves(report)]
    groups = [report.runs[i : i + _COLUMNS] for i in range(0, len(report.runs), _COLUMNS)]
    for runs in groups:
        parts += [_draw(table) for table in _common_tables(report, runs) if has_values(table)]
    parts += [_draw(table) for table in _clients_tables(report.runs)]
    for run in report.runs:
        parts += _notes(run.notes, run.label if len(report.runs) > 1 else "")
    return parts


def _common_tables(report: Report, runs: Sequence[RunReport]) -> Iterator[Table]:
    if len(report.runs) == 1:
        yield thinned(rounds_table(runs[0], report.headline), _ROWS)
        yield first_rows(updates_table(runs[0]), _ROWS)
        yield first_rows(participation_table(runs[0]), _ROWS)
    else:
        for title in SIDE_BY_SIDE:
            yield thinned(side_by_side(title, runs, report.headline), _ROWS_OF_MANY)
        yield times_table(runs)
    yield first_rows(classes_table(runs, report.headline), _ROWS)
    yield first_rows(evaluations_table(runs), _ROWS)
    yield heterogeneity_table(runs)


def _clients_tables(runs: Sequence[RunReport]) -> Iterator[Table]:
    """One table a run; what the columns mean is said once, below the last."""
    limit = _ROWS if len(runs) == 1 else _ROWS_OF_MANY
    tables = [(run, clients_table(run)) for run in runs if run.clients]
    for i, (run, table) in enumerate(tables):
        title = table.title if len(runs) == 1 else f"{table.title} of {visible(run.label)}"
        note = table.note if i == len(tables) - 1 else ""
        yield first_rows(replace(table, title=title, note=note), limit)


def _heading(run: RunReport) -> Text:
    rounds = [round_ for round_ in run.complete_rounds() if round_.number > 0]
    rule = next((r.rule for r in reversed(rounds) if r.rule), None)
    parts = [
        run.dataset,
        run.model,
        run.scheme,
        rule,
        _plural(len(run.clients), "client"),
        _plural(len(rounds), "round"),
    ]
    label, facts = visible(run.label), visible(" · ".join(filter(None, parts)))
    gap = "  " if len(label) + 2 + len(facts) <= _WIDTH else "\n  "
    return Text(label, style="bold").append(gap + facts, style="not bold")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _curves(report: Report) -> Iterator[RenderableType]:
    """Draw accuracy and loss over rounds, on one scale for all runs."""
    if report.headline is None:
        return
    for title, key in (("accuracy (%)", "accuracy"), ("loss", "loss")):
        series = [
            [
                getattr(r.score(report.headline), key, None)
                for r in shown_rounds(run, report.headline)
            ]
            for run in report.runs
        ]
        known = [value for values in series for value in values if value is not None]
        if len(known) < 2:
            continue
        grid = RichTable.grid(padding=(0, 1))
        for _ in range(4):
            grid.add_column(no_wrap=True)
        for run, values in zip(report.runs, series, strict=True):
            own = [value for value in values if value is not None]
            ends = [_figure(key, own[i]) if own else UNKNOWN for i in (0, -1)]
            line = Text(curve(values, min(known), max(known)), style="cyan")
            name = visible(run.label) if len(report.runs) > 1 else title
            grid.add_row(
                Text(_folded(name, _NAMES["method"])),
                Text(ends[0]),
                line,
                Text(ends[1], style="bold"),
            )
        if len(report.runs) > 1:
            yield Text(title, style="bold")
        yield Padding(grid, (0, 0, 1, 0), expand=False)


def _folded(text: str, width: int) -> str:
    """Break a name into lines: at spaces and hyphens where it has some."""
    return "\n".join(wrap(text, width))


def _figure(key: str, value: float) -> str:
    return percent(value) if key == "accuracy" else decimal(value, 3)


def _notes(notes: Sequence[Note], label: str = "") -> Iterator[RenderableType]:
    for note in notes:
        text = Text("note: ", style="yellow")
        text.append(visible(f"{label}: {note.text}" if label else note.text), style="default")
        yield text
        if note.command:
            # a plain string is never wrapped, so that it can be copied in one piece
            yield f"      {visible(note.command)}"


def _draw(table: Table) -> RenderableType:
    """Draw one table; header cells are folded, numbers never break."""
    wide = len(table.columns) > 7
    name_width = _NAMES.get(table.columns[0])
    header = 18 if name_width or len(table.columns) < 5 else 12
    padding = (0, 0 if wide else 1, 0, 0)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    for name in table.columns:
        is_text = name in _TEXT
        drawn.add_column(
            Text(name.replace(" ", "\n", 1) if wide else _folded(name, header)),
            justify="left" if is_text else "right",
            no_wrap=not is_text or name == "labels",
            overflow="fold",
        )
    for row in table.rows:
        first = _folded(row[0], name_width) if name_width else row[0]
        drawn.add_row(Text(first), *map(Text, row[1:]))
    parts: list[RenderableType] = [Text(table.title, style="bold")] if table.title else []
    note = [Text(table.note, style="dim")] if table.note else []
    return Group(*parts, drawn, *note, Text())
