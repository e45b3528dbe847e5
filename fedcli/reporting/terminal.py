"""The report on a terminal: rich tables and sparklines that fit 80 columns."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fedcli.reporting.client_tables import clients_table, participation_table, updates_table
from fedcli.reporting.layout import UNKNOWN, CellKind, Table, first_rows, has_values, thinned
from fedcli.reporting.method_tables import method_rounds_tables, methods_table, seeds_table
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.notes import merged_notes
from fedcli.reporting.recipe_tables import differences_table, recipe_table
from fedcli.reporting.report import Method, Report
from fedcli.reporting.run_report import Note, RunReport
from fedcli.reporting.score_tables import class_tables, evaluations_table
from fedcli.reporting.sparkline import curve
from fedcli.reporting.tables import (
    RUN_WIDTH,
    heterogeneity_table,
    judged_tables,
    rounds_table,
    side_by_side,
    summary_table,
    times_table,
)
from fedcli.reporting.words import counted
from fedcli.text import printable

_ROWS = 20
_ROWS_OF_MANY = 10
_ROUNDS = 4  # of methods, whose figures take the room of two
_COLUMNS = 4  # runs side by side in one table
_WIDTH = 80


def render(report: Report, *, details: bool = False) -> list[RenderableType]:
    """Return what a terminal shows of a report, from the top down.

    Many runs, and repetitions, are compared as methods; their own tables follow with ``details``.
    """
    if report.in_detail:
        return [*_by_run(report), *_notes_of_runs(report.runs)]
    if details:
        return [*_by_method(report), *_by_run(report), *_notes_of_runs(report.runs)]
    return [*_by_method(report), *_notes(merged_notes(report.runs)), *_more(report)]


def _by_method(report: Report) -> Iterator[RenderableType]:
    runs, methods = len(report.runs), len(report.methods)
    yield Text(f"{counted(runs, 'run')} of {counted(methods, 'method')}", style="bold")
    yield Text()
    yield _draw(methods_table(report))
    if report.notes:
        yield from (*_notes(report.notes), Text())
    tables = (differences_table(report), seeds_table(report), *judged_tables(report))
    yield from (_draw(table) for table in tables[:2] if table.rows)
    yield from _curves(report)
    yield from (_draw(table) for table in method_rounds_tables(report, _ROUNDS))
    yield from (_draw(table) for table in tables[2:] if table.rows)


def _by_run(report: Report) -> Iterator[RenderableType]:
    yield from map(_heading, report.runs)
    yield Text()
    yield _draw(summary_table(report))
    if report.in_detail:
        yield from _notes(report.notes)
        yield from _curves(report)
        yield from (_draw(table) for table in judged_tables(report) if table.rows)
    groups = [report.runs[i : i + _COLUMNS] for i in range(0, len(report.runs), _COLUMNS)]
    for runs in groups:
        yield from (_draw(table) for table in _common_tables(report, runs) if has_values(table))
    yield from (_draw(table) for table in _clients_tables(report.runs))
    if len(report.runs) == 1:
        yield _draw(recipe_table(report.runs[0], commands=False))
    elif report.in_detail:
        yield _draw(differences_table(report))


def _notes_of_runs(runs: Sequence[RunReport]) -> Iterator[RenderableType]:
    for run in runs:
        yield from _notes(run.notes, run.label if len(runs) > 1 else "")


def _more(report: Report) -> Iterator[RenderableType]:
    yield Text(f"tables of each of the {len(report.runs)} runs: --details", style="dim")


def _common_tables(report: Report, runs: Sequence[RunReport]) -> Iterator[Table]:
    if len(report.runs) == 1:
        yield thinned(rounds_table(runs[0], report.headline, report.judged_by), _ROWS)
        yield first_rows(updates_table(runs[0]), _ROWS)
        yield first_rows(participation_table(runs[0]), _ROWS)
    else:
        for table in side_by_side(runs, report.headline, report.judged_by):
            yield thinned(table, _ROWS_OF_MANY)
        yield times_table(runs)
    yield first_rows(class_tables(runs, report.headline)[0], _ROWS)
    yield first_rows(evaluations_table(runs, report.judged_by), _ROWS)
    yield heterogeneity_table(runs)


def _clients_tables(runs: Sequence[RunReport]) -> Iterator[Table]:
    """Return one table per run; only the last explains the columns."""
    limit = _ROWS if len(runs) == 1 else _ROWS_OF_MANY
    tables = [(run, clients_table(run)) for run in runs if run.clients]
    for i, (run, table) in enumerate(tables):
        title = table.title if len(runs) == 1 else f"{table.title} of {printable(run.label)}"
        note = table.note if i == len(tables) - 1 else ""
        yield first_rows(replace(table, title=title, note=note), limit)


def _heading(run: RunReport) -> Text:
    counts = (counted(len(run.clients), "client"), counted(len(run.trained_rounds()), "round"))
    label, facts = printable(run.label), printable(" · ".join([*run.facts, *counts]))
    gap = "  " if len(label) + 2 + len(facts) <= _WIDTH else "\n  "
    return Text(label, style="bold").append(gap + facts, style="not bold")


def _curves(report: Report) -> Iterator[RenderableType]:
    """Draw the metric and the loss over rounds, on one scale for all runs."""
    for name in dict.fromkeys((report.metric, "loss")):
        yield from _curve(report, METRICS[name])


def _curve(report: Report, metric: Metric) -> Iterator[RenderableType]:
    series = [_means(method, metric) for method in report.methods]
    known = [value for values in series for value in values if value is not None]
    if len(known) < 2:
        return
    grid = RichTable.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    for method, values in zip(report.methods, series, strict=True):
        own = [value for value in values if value is not None]
        first, last = (metric.show(own[i]) if own else UNKNOWN for i in (0, -1))
        name = printable(method.label) if len(report.runs) > 1 else metric.axis
        line = Text(curve(values, min(known), max(known)), style="cyan")
        label = Text(_folded(name, RUN_WIDTH))
        grid.add_row(label, Text(first), line, Text(last, style="bold"))
    if len(report.runs) > 1:
        yield Text(metric.axis, style="bold")
    yield Padding(grid, (0, 0, 1, 0), expand=False)


def _means(method: Method, metric: Metric) -> list[float | None]:
    spreads = [round_.scores.get(metric.name) for round_ in method.rounds]
    return [one.mean if one else None for one in spreads]


def _folded(text: str, width: int) -> str:
    """Break a name into lines, at spaces and hyphens if it has any."""
    return "\n".join(wrap(text, width))


def _notes(notes: Sequence[Note], label: str = "") -> Iterator[RenderableType]:
    for note in notes:
        text = Text("note: ", style="yellow")
        text.append(printable(f"{label}: {note.text}" if label else note.text), style="default")
        yield text
        if note.command:
            # a plain string is not wrapped, so that it can be copied in one piece
            yield f"      {printable(note.command)}"


def _draw(table: Table) -> RenderableType:
    """Draw one table; headings are folded, numbers never break."""
    wide = len(table.headings) > 6
    name_width = table.headings[0].width
    padding = (0, 0 if wide else 1, 0, 0)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    folded = 18 if name_width or len(table.headings) < 5 else 12
    for heading in table.headings:
        name = heading.text
        drawn.add_column(
            Text(name.replace(" ", "\n", 1) if wide else _folded(name, folded)),
            justify="right" if heading.kind == CellKind.FIGURE else "left",
            no_wrap=heading.kind != CellKind.TEXT,
            overflow="fold",
        )
    for row in table.rows:
        first = _folded(row[0], name_width) if name_width else row[0]
        drawn.add_row(Text(first), *map(Text, row[1:]))
    parts: list[RenderableType] = [Text(table.title, style="bold")] if table.title else []
    note = [Text(table.note, style="dim")] if table.note else []
    return Group(*parts, drawn, *note, Text())
