"""The report as Markdown (GitHub's flavour)."""

import re
from collections.abc import Iterable, Sequence

from fedcli.reporting.layout import CellKind, Table
from fedcli.reporting.model import Note, Report
from fedcli.reporting.tables import run_tables, shared_tables, summary_table
from fedcli.text import printable


def to_markdown(report: Report) -> str:
    """Return the report as a Markdown document that ends with a newline."""
    parts = ["# Federated learning report", _table(summary_table(report)), *_notes(report.notes)]
    for table in shared_tables(report):
        parts += [f"## {escape(table.title)}", _table(table)]
    for run in report.runs:
        parts += [f"## {escape(printable(run.label))}", *_notes(run.notes)]
        for table in run_tables(run, report.headline, report.judged_by):
            parts += [f"### {escape(table.title)}", _table(table)]
    return "\n\n".join(parts) + "\n"


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
