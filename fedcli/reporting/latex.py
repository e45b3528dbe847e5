"""The tables of a report for LaTeX, with rules by booktabs."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from textwrap import wrap

from fedcli.reporting.client_tables import clients_table
from fedcli.reporting.layout import BestCell, CellKind, Heading, Table, first_rows
from fedcli.reporting.method_tables import methods_table, seeds_table
from fedcli.reporting.recipe_tables import differences_table, recipe_table, telling_columns
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.score_tables import class_tables, evaluations_table, scores_table
from fedcli.reporting.tables import heterogeneity_table, judged_tables, summary_table
from fedcli.reporting.words import counted
from fedcli.text import printable

_NEEDS = r"% Needs \usepackage{booktabs}, and with pdfLaTeX \usepackage[T1]{fontenc}"
_SCRIPTS = "; some names need LuaLaTeX or XeLaTeX, and a font that has them"
_LAST_OF_T1 = "\u017f"  # of the Latin letters that pdfLaTeX knows

_ROWS = 20
_COLUMNS = 4  # runs side by side in one table
_HEADING = 13  # characters in a line of the head of a column
# Characters that fit a line of 345 pt, which articles have, in letters of 10 pt and of 8 pt.
_LINE, _SMALL_LINE = 66, 84
_GAP = 2  # between columns, in characters
_SMALL = r"  \footnotesize\setlength{\tabcolsep}{4pt}"
_TIGHT = r"  \scriptsize\setlength{\tabcolsep}{3pt}"
_LONG = 16  # characters of a text, above which it may be broken into lines
_UNBROKEN = re.compile(r"(?<=,)(?=\S)")  # as in lists of classes

_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "η": "eta",
    "λ": "lambda",
    "μ": "mu",
    "µ": "mu",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
}
_SPECIAL = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    **{letter: rf"$\{name}$" for letter, name in _GREEK.items()},
}
# Of two such characters LaTeX makes one: a dash, or a quotation mark.
_JOINED = re.compile(r"([-',])(?=\1)")


def to_latex(report: Report, *, details: bool = False) -> str:
    """Return the tables of a report, each a ``table`` with a caption and a label.

    Many runs, and repetitions, are compared as methods; the tables of each run follow with
    ``details``. The best of a column is bold, with all that read the same. The text ends with a
    newline; its first line is a comment that names the packages that it needs.
    """
    found = [(name, table) for name, table in _tables(report, details=details) if table.rows]
    labels = _labels(name for name, _ in found)
    tables = [_table(table, label) for (_, table), label in zip(found, labels, strict=True)]
    text = "\n\n".join(tables)
    return f"{_NEEDS}{_SCRIPTS if max(text) > _LAST_OF_T1 else ''}.\n\n{text}\n"


def escape(text: str) -> str:
    """Escape text for LaTeX, outside of formulas; letters beyond ASCII stay as they are."""
    text = _JOINED.sub(r"\1\0", unicodedata.normalize("NFC", printable(text)))
    return "".join(_SPECIAL.get(c, c) for c in text).replace("\0", "{}")


def _tables(report: Report, *, details: bool) -> Iterator[tuple[str, Table]]:
    """Yield tables, each with a name for its label."""
    if len(report.runs) == 1:
        yield "runs", _main(summary_table(report), report)
        yield "scores", scores_table(report.summary[0])
    else:
        yield from _comparison(report)
    yield from zip(("target", "fairness"), _judged(report), strict=True)
    if details or report.in_detail:
        yield from _of_runs(report)
    if len(report.runs) == 1:
        yield "recipe", recipe_table(report.runs[0], commands=False)


def _comparison(report: Report) -> Iterator[tuple[str, Table]]:
    if report.in_detail:
        yield "runs", _main(summary_table(report), report)
    else:
        yield "methods", _main(_by_options(methods_table(report), report), report)
    yield "seeds", _by_options(seeds_table(report), report)
    yield "options", differences_table(report)


def _main(table: Table, report: Report) -> Table:
    """Say what the main table is about, and what there is to know when it is read."""
    runs, methods = len(report.runs), len(report.methods)
    repeated = f" of {counted(methods, 'method')}" if methods < runs else ""
    what = report.runs[0].label if runs == 1 else f"{runs} runs{repeated}"
    about = f": {report.headline.name}" if report.headline else ""
    notes = filter(None, (table.note, *(note.text for note in report.notes)))
    return replace(table, title=f"{what}{about}", note="; ".join(notes))


def _judged(report: Report) -> Iterator[Table]:
    for table in judged_tables(report):
        yield _by_options(table, report)


def _by_options(table: Table, report: Report) -> Table:
    """Put the options that tell methods apart in the place of what the methods are called."""
    columns = telling_columns(report)
    if not columns:
        return table
    found = {
        printable(method.label): [column.cell(method) for column in columns]
        for method in report.methods
    }
    return replace(
        table,
        headings=(*(column.head for column in columns), *table.headings[1:]),
        rows=tuple((*found[row[0]], *row[1:]) for row in table.rows),
    )


def _of_runs(report: Report) -> Iterator[tuple[str, Table]]:
    for i in range(0, len(report.runs), _COLUMNS):
        runs = report.runs[i : i + _COLUMNS]
        for table in class_tables(runs, report.headline):
            yield "classes", first_rows(table, _ROWS)
        yield "evaluations", first_rows(evaluations_table(runs, report.judged_by), _ROWS)
        yield "heterogeneity", heterogeneity_table(runs)
    for run in report.runs:
        yield "clients", _clients(run, alone=len(report.runs) == 1)


def _clients(run: RunReport, *, alone: bool) -> Table:
    table = first_rows(clients_table(run, bars=False), _ROWS)
    return table if alone else replace(table, title=f"{table.title} of {run.label}")


def _labels(names: Iterable[str]) -> Iterator[str]:
    """Yield a label for each name; a name that comes again gets a number."""
    times: dict[str, int] = {}
    for name in names:
        times[name] = times.get(name, 0) + 1
        yield f"tab:{name}" if times[name] == 1 else f"tab:{name}-{times[name]}"


def _table(table: Table, label: str) -> str:
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(table.title)}}}",
        rf"  \label{{{label}}}",
        *_size(table),
        rf"  \begin{{tabular}}{{{''.join(_columns(table))}}}",
        r"    \toprule",
        _row(map(_heading, table.headings)),
        r"    \midrule",
        *(_row(map(_cell, row)) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    if table.note:
        lines.append(rf"  \par\smallskip{{\footnotesize {escape(table.note)}\par}}")
    return "\n".join([*lines, r"\end{table}"])


def _size(table: Table) -> list[str]:
    """Return the line that makes a table smaller, the more so the wider it is."""
    width = _width(table)
    if width <= _LINE:
        return []
    return [_SMALL if width <= _SMALL_LINE else _TIGHT]


def _width(table: Table) -> int:
    """Return about how wide a table is, in characters."""
    return sum(_GAP + max(map(len, _parts(column))) for column in _by_column(table))


def _by_column(table: Table) -> Iterator[tuple[Heading, tuple[str, ...]]]:
    return zip(table.headings, zip(*table.rows, strict=True), strict=True)


def _parts(column: tuple[Heading, tuple[str, ...]]) -> list[str]:
    """Return the lines of the head of a column, and its cells."""
    heading, cells = column
    return [*_lines(heading), *cells]


def _lines(heading: Heading) -> list[str]:
    """Break the head of a column that is wider than figures are."""
    return wrap(heading.text, _HEADING, break_long_words=False)


def _columns(table: Table) -> Iterator[str]:
    """Yield how each column is set; long text is broken into lines where it would not fit."""
    is_wide = _width(table) > _SMALL_LINE
    share = 0.6 if len(table.headings) == 2 else 0.2
    for heading, cells in _by_column(table):
        if heading.kind != CellKind.TEXT:
            yield "r"
        else:
            is_long = is_wide and max(map(len, cells)) > _LONG
            yield rf"p{{{share}\linewidth}}" if is_long else "l"


def _row(cells: Iterable[str]) -> str:
    return rf"    {_protected(' & '.join(cells))} \\"


def _heading(heading: Heading) -> str:
    """Write the head of a column, over several lines if it is wider than figures are."""
    lines = _lines(heading)
    text = r"\\".join(_protected(escape(line)) for line in lines)
    side = "l" if heading.kind == CellKind.TEXT else "r"
    return rf"\shortstack[{side}]{{{text}}}" if len(lines) > 1 else text


def _protected(line: str) -> str:
    """Keep brackets and a star from what ends the line above, which takes them as its own."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _cell(text: str) -> str:
    escaped = escape(text)
    if len(text) > _LONG:
        escaped = _UNBROKEN.sub(r"\\allowbreak{}", escaped)
    return rf"\textbf{{{escaped}}}" if isinstance(text, BestCell) else escaped
