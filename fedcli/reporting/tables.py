"""The tables of a report, which are the same on the terminal, in Markdown and in HTML."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from fedcli.formats.evaluation import Score
from fedcli.reporting.client_tables import clients_table, participation_table, updates_table
from fedcli.reporting.columns import HETEROGENEITY, ROUNDS, judging
from fedcli.reporting.comparison_columns import (
    METHOD,
    attainment_columns,
    fairness_columns,
    method_attainment_columns,
    method_fairness_columns,
    summary_columns,
)
from fedcli.reporting.fairness import fairness_of_method
from fedcli.reporting.layout import UNKNOWN, CellKind, Column, Heading, Table, duration, tabulate
from fedcli.reporting.metric import Metric
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RoundReport, RunReport
from fedcli.reporting.score_tables import (
    class_tables,
    evaluations_table,
    intervals_table,
    run_headings,
)
from fedcli.reporting.subject import Subject
from fedcli.reporting.target import attainment_of_method
from fedcli.text import printable

RUN_WIDTH = 22  # characters, after which the name of a run is broken in the main table

_RUN = Heading("run", CellKind.TEXT, width=34)


def summary_table(report: Report) -> Table:
    """Return the main table: method, accuracy and communication, one row per run."""
    rows = ((_method(row.label, row.centralised), row) for row in report.summary)
    two_classes = any(len(run.classes) == 2 for run in report.runs)
    columns = summary_columns(report.judged_by, report.summary, two_classes=two_classes)
    return tabulate("", Heading("method", CellKind.TEXT, RUN_WIDTH), columns, rows, keep_empty=True)


def attainments_table(report: Report) -> Table:
    """Return what each run, or each method, needed to reach the target; no rows without one."""
    metric, target = report.judged_by, report.target
    if target is None:
        return Table("", (_RUN,), ())
    least = "at most" if metric.lowest_is_best else "at least"
    title = f"To reach {metric.axis}: {least} {metric.show(target)}"
    if report.has_repetitions:
        found = ((m, attainment_of_method(m, report.attainments)) for m in report.methods)
        of_methods = ((printable(method.label), row) for method, row in found)
        columns = method_attainment_columns(metric)
        return tabulate(title, METHOD, columns, of_methods, keep_empty=True)
    rows = ((printable(row.label), row) for row in report.attainments)
    return tabulate(title, _RUN, attainment_columns(metric), rows, keep_empty=True)


def fairness_table(report: Report) -> Table:
    """Return how evenly the global models serve the clients, by run or by method."""
    metric = report.judged_by
    title = f"Fairness: {metric.axis} of the global model over clients"
    if report.has_repetitions:
        found = ((m, fairness_of_method(m, report.fairness)) for m in report.methods)
        of_methods = ((printable(method.label), row) for method, row in found if row)
        return tabulate(title, METHOD, method_fairness_columns(metric), of_methods)
    rows = ((printable(row.label), row) for row in report.fairness)
    return tabulate(title, _RUN, fairness_columns(metric), rows)


def _method(label: str, centralised: bool) -> str:
    said = "centralised" in label.casefold()
    return printable(f"{label} (centralised)" if centralised and not said else label)


def shown_rounds(run: RunReport, headline: Subject | None) -> list[RoundReport]:
    """Return the complete rounds; round 0 only if it was evaluated."""
    return [
        round_
        for round_ in run.complete_rounds()
        if round_.number > 0 or (headline and round_.score(headline))
    ]


def _round_columns(headline: Subject | None, metric: Metric) -> list[Column[RoundReport]]:
    def score(round_: RoundReport) -> Score | None:
        return round_.score(headline) if headline else None

    return [*(column.through(score) for column in judging(metric)), *ROUNDS]


def rounds_table(run: RunReport, headline: Subject | None, metric: Metric) -> Table:
    """Return scores, bytes and the time of each step, one row per round."""
    rows = ((str(round_.number), round_) for round_ in shown_rounds(run, headline))
    return tabulate("Rounds", Heading("round"), _round_columns(headline, metric), rows)


def side_by_side(
    runs: Sequence[RunReport], headline: Subject | None, metric: Metric
) -> list[Table]:
    """Return one table per quantity, with one row per round and one column per run."""
    by_run = [{r.number: r for r in shown_rounds(run, headline)} for run in runs]
    numbers = sorted({number for rounds in by_run for number in rounds})
    headings = (Heading("round"), *run_headings(runs))
    return [
        Table(
            column.side_by_side,
            headings,
            tuple(
                (str(n), *(column.cell(rounds[n]) if n in rounds else UNKNOWN for rounds in by_run))
                for n in numbers
            ),
        )
        for column in _round_columns(headline, metric)
        if column.side_by_side
    ]


def times_table(runs: Sequence[RunReport]) -> Table:
    """Return the seconds that each step took in all complete rounds, one row per run."""
    columns = [
        Column[RunReport](column.summed, _summed(column), duration)
        for column in ROUNDS
        if column.summed
    ]
    rows = ((printable(run.label), run) for run in runs)
    note = "train: the slowest client of each round, and all clients"
    return tabulate("Time (s), all rounds added up", _RUN, columns, rows, note)


def _summed(column: Column[RoundReport]) -> Callable[[RunReport], float | None]:
    def value(run: RunReport) -> float | None:
        values = [column.find(round_) for round_ in run.complete_rounds()]
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    return value


def heterogeneity_table(runs: Sequence[RunReport]) -> Table:
    """Return how much the clients' examples differ, one row per run of several clients."""
    columns = (
        Column[RunReport]("cut by", "scheme", printable, kind=CellKind.TEXT),
        Column[RunReport]("clients", lambda run: len(run.clients)),
        *(column.through(attrgetter("heterogeneity")) for column in HETEROGENEITY),
    )
    found = (run for run in runs if run.heterogeneity and not run.centralised)
    rows = ((printable(run.label), run) for run in found)
    return tabulate("How the clients' examples differ", _RUN, columns, rows, keep_empty=True)


def judged_tables(report: Report) -> tuple[Table, Table]:
    """Return what the target took, and how evenly clients are served; both may have no rows."""
    return attainments_table(report), fairness_table(report)


def shared_tables(report: Report) -> list[Table]:
    """Return the tables that a document shows of all runs together, below the summary."""
    first, *rest = class_tables(report.runs, report.headline)
    evaluations = evaluations_table(report.runs, report.judged_by)
    judged = judged_tables(report)
    tables = [
        intervals_table(report),
        *judged,
        first,
        *rest,
        evaluations,
        heterogeneity_table(report.runs),
    ]
    return [table for table in tables if table.rows]


def run_tables(run: RunReport, headline: Subject | None, metric: Metric) -> list[Table]:
    """Return the tables that a document shows of one run: its rounds, and its clients."""
    tables = (
        rounds_table(run, headline, metric),
        updates_table(run),
        participation_table(run),
        clients_table(run),
    )
    return [table for table in tables if table.rows]
