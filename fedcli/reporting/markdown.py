"""The report as Markdown (GitHub's flavour)."""

import re
from collections.abc import Iterable, Sequence

from fedcli.reporting.layout import CellKind, Table
from fedcli.reporting.method_tables import method_rounds_tables, methods_table, seeds_table
from fedcli.reporting.notes import merged_notes
from fedcli.reporting.recipe_tables import differences_table, recipe_table
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import Note, RunReport
from fedcli.reporting.tables import judged_tables, run_tables, shared_tables, summary_table
from fedcli.text import printable

_ROUNDS = 11  # of methods, side by side
_OPTIONS = 12


def to_markdown(report: Report, *, details: bool = False) -> str:
    """Return the report as a Markdown document that ends with a newline.

    Many runs, and repetitions, are compared as methods; each run has a section with ``details``.
    """
    main = summary_table(report) if report.in_detail else methods_table(report)
    parts = ["# Federated learning report", _table(main), *_notes(report.notes)]
    for table in _tables(report, details=details):
        parts += [f"## {escape(table.title)}", _table(table)]
    if not (details or report.in_detail):
        return "\n\n".join([*parts, *_notes(merged_notes(report.runs))]) + "\n"
    for run in report.runs:
        parts += _section(run, report)
    return "\n\n".join(parts) + "\n"


def _tables(report: Report, *, details: bool) -> list[Table]:
    if report.in_detail:
        own = [differences_table(report, _OPTIONS)] if len(report.runs) > 1 else []
        return [*own, *shared_tables(report)]
    rounds = method_rounds_tables(report, _ROUNDS)
    methods = [differences_table(report, _OPTIONS), seeds_table(report), *rounds]
    judged = shared_tables(report) if details else judged_tables(report)
    return [table for table in (*methods, *judged) if table.rows]


def _section(run: RunReport, report: Report) -> list[str]:
    parts = [f"## {escape(printable(run.label))}", *_notes(run.notes)]
    for table in run_tables(run, report.headline, report.judged_by):
        parts += [f"### {escape(table.title)}", _table(table)]
    return [*parts, *_recipe(run)]


def _recipe(run: RunReport) -> list[str]:
    table = recipe_table(run, commands=False)
    commands = "\n".join(f"    {printable(command)}" for command in run.recipe.commands)
    return [f"### {table.title}", _table(table), *([commands] if commands else [])]


def escape(text: str) -> str:
    """Escape text for Markdown, inside a table cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", text)


def _table(table: Table) -> str:
    marks = ("---:" if heading.kind == CellKind.FIGURE else "---" for heading in table.headings)
    lines = [_row([escape(heading.text) for heading in table.headings]), _row(marks)]
    lines += [_row(map(escape, row)) for row in table.rows]
    note = f"\n\n{escape(table.note)}" if table.note else ""
    return "\n".join(lines) + note


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(notes: Sequence[Note]) -> list[str]:
    lines = []
    for note in notes:
        command = f":\n\n      {printable(note.command)}\n" if note.command else ""
        lines.append(f"- {escape(printable(note.text))}{command}")
    return ["\n".join(lines)] if lines else []
