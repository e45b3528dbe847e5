"""Tables of scores: of one run with intervals, of all that was evaluated, and of each class."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fedcli.formats.evaluation import ClassScore, Score
from fedcli.reporting.columns import CLASSES, LOSS, SCORES
from fedcli.reporting.headline import subjects
from fedcli.reporting.layout import UNKNOWN, CellKind, Column, Heading, Table, tabulate
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Report, Summary
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.subject import Subject
from fedcli.text import printable

_LONG = 24  # characters; a longer list of classes is given below its table
_CLASS, _EVALUATION = Heading("class", CellKind.TEXT), Heading("evaluation", CellKind.TEXT)


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


def run_headings(runs: Sequence[RunReport]) -> Iterator[Heading]:
    """Return a column for each run, under its label."""
    return (Heading(printable(run.label)) for run in runs)


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
    headings = (_EVALUATION, *run_headings(runs))
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
