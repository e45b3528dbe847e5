"""The report as Markdown (GitHub's flavour)."""

import re
from collections.abc import Sequence

from fedcli.reporting.cells import (
    Table,
    visible,
)
from fedcli.reporting.model import Note, Report
from fedcli.reporting.tables import (
    classes_table,
    evaluations_table,
    f1_table,
    heterogeneity_table,
    run_tables,
    summary_table,
)

_TEXT = (
    "method", "run", "evaluation", "client", "class", "device", "labels", "stands out", "cut by",
)  # fmt: skip


def to_markdown(report: Report) -> str:
    """Return the report as a Markdown document that ends with a newline."""
    parts = ["# Federated learning report", _table(summary_table(report)), *_notes(report.notes)]
    tables = [classes_table(report.runs, report.headline), evaluations_table(report.runs)]
    if len(report.runs) > 1:
        tables.insert(1, f1_table(report.runs, report.headline))
    tables.append(heterogeneity_table(report.runs))
    for table in tables:
        if table.rows:
            parts += [f"## {escape(table.title)}", _table(table)]
    for run in report.runs:
        parts += [f"## {escape(visible(run.label))}", *_notes(run.notes)]
        for table in run_tables(run, report.headline):
            if table.rows:
                parts += [f"### {escape(table.title)}", _table(table)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Make text mean itself in Markdown, inside a table cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", text)


def _table(table: Table) -> str:
    marks = ("---" if name in _TEXT else "---:" for name in table.columns)
    lines = [_row(tuple(map(escape, table.columns))), _row(tuple(marks))]
    lines += [_row(tuple(map(escape, row))) for row in table.rows]
    note = f"\n\n{escape(table.note)}" if table.note else ""
    return "\n".join(lines) + note


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(notes: Sequence[Note]) -> list[str]:
    lines = []
    for note in notes:
        command = f":\n\n      {visible(note.command)}\n" if note.command else ""
        lines.append(f"- {escape(visible(note.text))}{command}")
    return ["\n".join(lines)] if lines else []
