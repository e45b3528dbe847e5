"""The tables of a report, which are the same on the terminal, in Markdown and in HTML."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from fedcli.formats.evaluation import ClassScore, Score
from fedcli.reporting.client_tables import clients_table, participation_table, updates_table
from fedcli.reporting.columns import CLASSES, HETEROGENEITY, LOSS, ROUNDS, SCORES, judging
from fedcli.reporting.comparison_columns import (
    attainment_columns,
    fairness_columns,
    method_attainment_columns,
    method_fairness_columns,
    summary_columns,
)
from fedcli.reporting.fairness import fairness_of_method
from fedcli.reporting.headline import subjects
from fedcli.reporting.layout import UNKNOWN, CellKind, Column, Heading, Table, duration, tabulate
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Report, Summary
from fedcli.reporting.run_report import RoundReport, RunReport
from fedcli.reporting.subject import Subject
from fedcli.reporting.target import attainment_of_method
from fedcli.text import printable

RUN_WIDTH = 22  # characters, after which the name of a run is broken in the main table

_LONG = 24  # characters; a longer list of classes is given below its table
_METHOD = Heading("method", CellKind.TEXT, width=30)
_RUN = Heading("run", CellKind.TEXT, width=34)
_CLASS, _EVALUATION = Heading("class", CellKind.TEXT), Heading("evaluation", CellKind.TEXT)


def summary_table(report: Report) -> Table:
    """Return the main table: method, accuracy and communication, one row per run."""
    rows = ((_method(row.label, row.centralised), row) for row in report.summary)
    two_classes = any(len(run.classes) == 2 for run in report.runs)
    columns = summary_columns(report.judged_by, report.summary, two_classes=two_classes)
    return tabulate("", Heading("method", CellKind.TEXT, RUN_WIDTH), columns, rows, keep_empty=True)


def intervals_table(report: Report) -> Table:
    """Return the scores of a single run with their 95 % intervals, one row per metric."""
    table = scores_table(report.summary[0])
    rows = tuple(row for row in table.rows if row[2] != UNKNOWN) if len(report.runs) == 1 else ()
    return replace(table, title="95 % intervals", rows=rows)


def scores_table(summary: Summary) -> Table:
    """Return the last scores of a run, with the 95 % intervals that are known, a row per metric."""
    rows = tuple(
        (metric.axis, *map(metric.show, (value, *bounds)), *[UNKNOWN] * (2 - len(bounds)))
        for metric in METRICS.values()
        if (value := getattr(summary, metric.name)) is not None
        for bounds in (summary.intervals.get(metric.name, ()),)
    )
    headings = (Heading("score", CellKind.TEXT), *map(Heading, ("value", "low", "high")))
    note = "test examples drawn again, 1,000 times; the AUC by the method of DeLong"
    return Table("Scores, with 95 % intervals", headings, rows, note if summary.intervals else "")


def attainments_table(report: Report) -> Table:
    """Return what each run, or each method, needed to reach the target; no rows without one."""
    metric, target = report.judged_by, report.target
    if target is None:
        return Table("", (_RUN,), ())
    least = "at most" if metric.lowest_is_best else "at least"
    title = f"To reach {metric.axis}: {least} {metric.show(target)}"
    if _has_repetitions(report):
        found = ((m, attainment_of_method(m, report.attainments)) for m in report.methods)
        of_methods = ((printable(method.label), row) for method, row in found)
        columns = method_attainment_columns(metric)
        return tabulate(title, _METHOD, columns, of_methods, keep_empty=True)
    rows = ((printable(row.label), row) for row in report.attainments)
    return tabulate(title, _RUN, attainment_columns(metric), rows, keep_empty=True)


def fairness_table(report: Report) -> Table:
    """Return how evenly the global models serve the clients, by run or by method."""
    metric = report.judged_by
    title = f"Fairness: {metric.axis} of the global model over clients"
    if _has_repetitions(report):
        found = ((m, fairness_of_method(m, report.fairness)) for m in report.methods)
        of_methods = ((printable(method.label), row) for method, row in found if row)
        return tabulate(title, _METHOD, method_fairness_columns(metric), of_methods)
    rows = ((printable(row.label), row) for row in report.fairness)
    return tabulate(title, _RUN, fairness_columns(metric), rows)


def _has_repetitions(report: Report) -> bool:
    return any(method.n > 1 for method in report.methods)


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
    headings = (Heading("round"), *_labels(runs))
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


def _labels(runs: Sequence[RunReport]) -> Iterator[Heading]:
    return (Heading(printable(run.label)) for run in runs)


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


def evaluations_table(runs: Sequence[RunReport], metric: Metric) -> Table:
    """Return everything that was evaluated, each at the latest round that has it."""
    found = subjects([run.rounds for run in runs])
    subsets = _subsets(found)
    rows = [(printable(subject.named(subsets[subject.classes])), subject) for subject in found]
    lists = "".join(
        f"; only {name}: {printable(', '.join(classes))}"
        for classes, name in subsets.items()
        if name != ", ".join(classes)
    )
    if len(runs) == 1:
        note = "each at the latest round that has it; bal.: mean over classes; F1: macro average"
        columns = _evaluation_columns(runs[0])
        return tabulate("Evaluations", _EVALUATION, columns, rows, note + lists)
    cells = tuple(
        (name, *(_latest(run, subject, metric) for run in runs)) for name, subject in rows
    )
    note = "each at the latest round that has it, which is in brackets"
    headings = (_EVALUATION, *_labels(runs))
    return Table(f"Evaluations: {metric.axis}", headings, cells, note + lists)


def _evaluation_columns(run: RunReport) -> list[Column[Subject]]:
    def score(subject: Subject) -> Score | None:
        found = run.latest(subject)
        return found[1] if found else None

    def number(subject: Subject) -> int | None:
        found = run.latest(subject)
        return found[0].number if found else None

    ordered = [*(column for column in SCORES if column is not LOSS), LOSS]
    return [Column("round", number), *(column.through(score) for column in ordered)]


def _latest(run: RunReport, subject: Subject, metric: Metric) -> str:
    latest = run.latest(subject)
    if latest is None or (value := metric.of(latest[1])) is None:
        return UNKNOWN
    return f"{metric.show(value)} ({latest[0].number})"


def _subsets(found: Sequence[Subject]) -> dict[tuple[str, ...], str]:
    """Name every selection of classes: by its classes, or by their number if they are many.

    Selections with the same number of classes are numbered: ``6 classes #2``.
    """
    selections = list(dict.fromkeys(subject.classes for subject in found))
    long = [classes for classes in selections if len(", ".join(classes)) > _LONG]
    names = {classes: ", ".join(classes) for classes in selections}
    for classes in long:
        alike = [other for other in long if len(other) == len(classes)]
        which = f" #{alike.index(classes) + 1}" if len(alike) > 1 else ""
        names[classes] = f"{len(classes)} classes{which}"
    return names


def class_tables(runs: Sequence[RunReport], headline: Subject | None) -> list[Table]:
    """Return one row per class, at the latest scored round; for several runs, a table per score."""
    by_run = [_class_scores(run, headline) for run in runs]
    names = dict.fromkeys(name for run in runs for name in run.classes)
    found = ((printable(name), [scores.get(name) for scores in by_run]) for name in names)
    rows = [(name, scores) for name, scores in found if any(scores)]
    if len(runs) == 1:
        columns = [column.through(_first) for column in CLASSES]
        return [tabulate("Classes", _CLASS, columns, rows, keep_empty=True)]
    return [
        tabulate(
            column.side_by_side,
            _CLASS,
            [CLASSES[0].through(_first), *(_of_run(column, i, run) for i, run in enumerate(runs))],
            rows,
            keep_empty=True,
        )
        for column in CLASSES
        if column.side_by_side
    ]


def _first(scores: Sequence[ClassScore | None]) -> ClassScore | None:
    return next(filter(None, scores), None)


def _of_run(
    column: Column[ClassScore], index: int, run: RunReport
) -> Column[Sequence[ClassScore | None]]:
    def score(scores: Sequence[ClassScore | None]) -> ClassScore | None:
        return scores[index]

    return replace(column.through(score), heading=printable(run.label))


def _class_scores(run: RunReport, headline: Subject | None) -> dict[str, ClassScore]:
    latest = run.latest(headline) if headline else None
    return {score.name: score for score in latest[1].per_class} if latest else {}


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
