"""The report as one self-contained HTML page: it needs no network, and says so to the browser."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files

from fedcli.reporting.chart_parts import WIDTH, Chart
from fedcli.reporting.charts import chart_of
from fedcli.reporting.documents import environment
from fedcli.reporting.figures import comparison_figures, run_figures
from fedcli.reporting.layout import Table, first_rows, thinned
from fedcli.reporting.method_tables import method_rounds_tables, methods_table, seeds_table
from fedcli.reporting.recipe_tables import differences_table, recipe_table
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.tables import run_tables, shared_tables, summary_table
from fedcli.text import printable

_ROUNDS = 11  # of methods, side by side
_OPTIONS = 12  # that differ, as columns
_ROWS = 100  # of a table
_ROWS_OF_RUNS = 1600  # of one kind of table, those of all runs together
_MOST_DRAWN = 700_000  # bytes of charts of single runs, after which a page has no more


@dataclass(frozen=True)
class Picture:
    """A chart on the page: ``name`` is its id and that of its files, ``caption`` stands below."""

    name: str
    chart: Chart
    caption: str

    @property
    def view(self) -> str:
        """The area of the drawing, as SVG writes it."""
        return f"0 0 {WIDTH:g} {self.chart.height:.0f}"

    @property
    def values(self) -> str:
        """What the script shows, as JSON that ends no element of HTML."""
        text = json.dumps(self.chart.data, allow_nan=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@dataclass(frozen=True)
class RunSection:
    """What the page shows of one run; ``left_out`` says that its charts would make it too large."""

    name: str
    run: RunReport
    pictures: list[Picture]
    tables: list[Table]
    left_out: bool


def to_html(report: Report) -> str:
    """Return the page. The same report gives the same bytes."""
    templates = environment("fedcli.reporting")
    templates.filters["printable"] = printable
    script = files("fedcli.reporting").joinpath("templates/page.js").read_text(encoding="utf-8")
    return templates.get_template("page.html.j2").render(
        report=report,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=summary_table(report) if report.in_detail else methods_table(report),
        pictures=[
            Picture(name, chart_of(shown), caption)
            for name, shown, caption in comparison_figures(report)
        ],
        tables=[first_rows(table, _ROWS) for table in _tables(report)],
        sections=list(_sections(report)),
    )


def _tables(report: Report) -> list[Table]:
    """Return what stands below the main table: of methods first, where there are several."""
    tables = [differences_table(report, _OPTIONS)] if len(report.runs) > 1 else []
    if not report.in_detail:
        runs = replace(summary_table(report), title="All runs")
        tables += [seeds_table(report), *method_rounds_tables(report, _ROUNDS), runs]
    return [table for table in (*tables, *shared_tables(report)) if table.rows]


def _cut(table: Table, limit: int) -> Table:
    """Keep the first rows; of rounds some of all, the last one among them."""
    by_round = table.headings[0].text == "round"
    return thinned(table, limit) if by_round else first_rows(table, limit)


def _sections(report: Report) -> Iterator[RunSection]:
    room = _MOST_DRAWN
    for index, run in enumerate(report.runs, 1):
        name = f"run-{index}"
        pictures = [
            Picture(f"{name}-{kind}", chart_of(shown), caption)
            for kind, shown, caption in run_figures(run, report.headline)
        ]
        room -= sum(len(picture.chart.drawing) + len(picture.values) for picture in pictures)
        tables = run_tables(run, report.headline, report.judged_by)
        tables.append(recipe_table(run))
        yield RunSection(
            name=name,
            run=run,
            pictures=pictures if room > 0 else [],
            tables=[_cut(table, min(_ROWS, _ROWS_OF_RUNS // len(report.runs))) for table in tables],
            left_out=bool(pictures) and room <= 0,
        )
