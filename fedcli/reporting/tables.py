"""The tables of a report: the terminal, Markdown and HTML show the same."""

from collections.abc import Callable, Sequence

from fedcli.formats.evaluation import ClassScore
from fedcli.reporting.cells import (
    UNKNOWN,
    Table,
    count,
    decimal,
    duration,
    megabytes,
    percent,
    visible,
    without_empty,
)
from fedcli.reporting.client_tables import clients_table, participation_table, updates_table
from fedcli.reporting.headline import subjects
from fedcli.reporting.model import Report, RoundReport, RunReport, Subject, Summary

_LONG = 24  # characters; a longer list of classes is given below its table


def summary_table(report: Report) -> Table:
    """Method, accuracy and communication: one row a run."""
    columns = ("method", "rounds", "accuracy (%)", "best (%)", "communication (MB)")
    return Table("", columns, tuple(_summary_row(row) for row in report.summary))


def _summary_row(row: Summary) -> tuple[str, ...]:
    best = UNKNOWN
    if row.best_accuracy is not None:
        best = f"{percent(row.best_accuracy)} (round {row.best_round})"
    said = "centralised" in row.label.casefold()
    name = f"{row.label} (centralised)" if row.centralised and not said else row.label
    accuracy, size = percent(row.accuracy), megabytes(row.bytes_total)
    return visible(name), count(row.round), accuracy, best, size


def shown_rounds(run: RunReport, headline: Subject | None) -> list[RoundReport]:
    """Return the complete rounds; round 0 only where it was evaluated."""
    return [
        round_
        for round_ in run.complete_rounds()
        if round_.number > 0 or (headline and round_.score(headline))
    ]


def rounds_table(run: RunReport, headline: Subject | None) -> Table:
    """One row a round: scores, bytes, and the time of each step."""
    columns = (
        "round",
        "acc. (%)",
        "loss",
        "clients",
        "up (MB)",
        "down (MB)",
        "total (MB)",
        "train max (s)",
        "train sum (s)",
        "aggr. (s)",
        "eval. (s)",
    )
    rows = tuple(_round_row(r, headline) for r in shown_rounds(run, headline))
    note = "total: all rounds so far; train: the slowest client, and all clients added up"
    return without_empty(Table("Rounds", columns, rows, note))


def _round_row(round_: RoundReport, headline: Subject | None) -> tuple[str, ...]:
    score = round_.score(headline) if headline else None
    absent = len(round_.missing) + len(round_.rejected)
    accepted = len(round_.clients) + round_.clients_in_partials
    return (
        str(round_.number),
        percent(score.accuracy if score else None),
        decimal(score.loss if score else None, 3),
        f"{accepted}/{accepted + absent}" if absent else str(accepted),
        megabytes(round_.bytes_up),
        megabytes(round_.bytes_down),
        megabytes(round_.bytes_total),
        duration(round_.training_seconds_max),
        duration(round_.training_seconds_sum),
        duration(round_.aggregation_seconds),
        duration(round_.evaluation_seconds),
    )


Cell = Callable[[RoundReport, Subject | None], str]


def _accuracy(round_: RoundReport, headline: Subject | None) -> str:
    score = round_.score(headline) if headline else None
    return percent(score.accuracy if score else None)


def _loss(round_: RoundReport, headline: Subject | None) -> str:
    score = round_.score(headline) if headline else None
    return decimal(score.loss if score else None, 3)


SIDE_BY_SIDE: dict[str, Cell] = {
    "Accuracy (%) by round": _accuracy,
    "Loss by round": _loss,
    "Communication (MB), all rounds so far": lambda round_, _: megabytes(round_.bytes_total),
}


def side_by_side(title: str, runs: Sequence[RunReport], headline: Subject | None) -> Table:
    """One quantity of several runs: one row a round, one column a run."""
    by_run = [{r.number: r for r in shown_rounds(run, headline)} for run in runs]
    numbers = sorted({number for rounds in by_run for number in rounds})
    cell = SIDE_BY_SIDE[title]
    rows = tuple(
        (str(n), *(cell(rounds[n], headline) if n in rounds else UNKNOWN for rounds in by_run))
        for n in numbers
    )
    return Table(title, ("round", *(visible(run.label) for run in runs)), rows)


def times_table(runs: Sequence[RunReport]) -> Table:
    """The seconds that each step took, all complete rounds added up: one row a run."""
    columns = ("run", "train max", "train sum", "aggregate", "evaluate")
    rows = tuple(
        (
            visible(run.label),
            *(
                duration(sum(known) if (known := _known(run, key)) else None)
                for key in (
                    "training_seconds_max",
                    "training_seconds_sum",
                    "aggregation_seconds",
                    "evaluation_seconds",
                )
            ),
        )
        for run in runs
    )
    note = "train: the slowest client of each round, and all clients"
    return without_empty(Table("Time (s), all rounds added up", columns, rows, note))


def _known(run: RunReport, key: str) -> list[float]:
    values = (getattr(round_, key) for round_ in run.complete_rounds())
    return [value for value in values if value is not None]


def evaluations_table(runs: Sequence[RunReport]) -> Table:
    """Everything that was evaluated, at the latest round that has it."""
    found = subjects([run.rounds for run in runs])
    subsets = _subsets(found)
    names = [visible(s.named(subsets[s.classes])) for s in found]
    lists = "".join(
        f"; only {name}: {visible(', '.join(classes))}"
        for classes, name in subsets.items()
        if name != ", ".join(classes)
    )
    if len(runs) > 1:
        cells = [tuple(_latest_cell(run, subject) for run in runs) for subject in found]
        columns = ("evaluation", *(visible(run.label) for run in runs))
        note = "each at the latest round that has it, which is in brackets"
        title = "Evaluations: accuracy (%)"
    else:
        cells = [_evaluation_cells(runs[0], subject) for subject in found]
        columns = ("evaluation", "round", "examples", "acc. (%)", "bal. (%)", "F1", "AUC", "loss")
        note = "each at the latest round that has it; bal.: mean over classes; F1: macro average"
        title = "Evaluations"
    rows = tuple((name, *row) for name, row in zip(names, cells, strict=True))
    table = Table(title, columns, rows, note + lists)
    return table if len(runs) > 1 else without_empty(table)


def _subsets(found: Sequence[Subject]) -> dict[tuple[str, ...], str]:
    """Name every selection of classes: by its classes, or where these are many by their number.

    Selections of equally many are told apart: ``6 classes #2``.
    """
    selections = list(dict.fromkeys(subject.classes for subject in found))
    long = [classes for classes in selections if len(", ".join(classes)) > _LONG]
    names = {classes: ", ".join(classes) for classes in selections}
    for classes in long:
        alike = [other for other in long if len(other) == len(classes)]
        which = f" #{alike.index(classes) + 1}" if len(alike) > 1 else ""
        names[classes] = f"{len(classes)} classes{which}"
    return names


def _latest_cell(run: RunReport, subject: Subject) -> str:
    latest = run.latest(subject)
    return f"{percent(latest[1].accuracy)} ({latest[0].number})" if latest else UNKNOWN


def _evaluation_cells(run: RunReport, subject: Subject) -> tuple[str, ...]:
    latest = run.latest(subject)
    if latest is None:
        raise ValueError(f"{run.label} has no score of the {subject.name}")
    round_, score = latest
    return (
        str(round_.number),
        str(score.examples),
        percent(score.accuracy),
        percent(score.balanced_accuracy),
        decimal(score.macro_f1, 3),
        decimal(score.auc, 3),
        decimal(score.loss, 3),
    )


def heterogeneity_table(runs: Sequence[RunReport]) -> Table:
    """How much the clients' examples differ: one row a run of several clients."""
    columns = ("run", "cut by", "clients", "Jensen-Shannon", "earth mover's", "Gini")
    rows = tuple(
        (
            visible(run.label),
            visible(run.scheme or UNKNOWN),
            str(len(run.clients)),
            decimal(found.jensen_shannon_distance, 3),
            decimal(found.earth_movers_distance, 3),
            decimal(found.gini_of_sizes, 3),
        )
        for run in runs
        if (found := run.heterogeneity) and not run.centralised
    )
    note = (
        "0: alike, 1: nothing in common; Jensen-Shannon: mean distance of two clients' labels;"
        " earth mover's: of a client's labels from all; Gini: of the clients' sizes"
    )
    return Table("How the clients' examples differ", columns, rows, note)


def run_tables(run: RunReport, headline: Subject | None) -> tuple[Table, ...]:
    """The tables of one run alone: its rounds, and its clients."""
    return (
        rounds_table(run, headline),
        updates_table(run),
        participation_table(run),
        clients_table(run),
    )


def classes_table(runs: Sequence[RunReport], headline: Subject | None) -> Table:
    """One row a class, at the latest evaluated round: the accuracies, of one run with F1."""
    table = _by_class("Classes: accuracy (%)", runs, headline, lambda c: percent(c.accuracy))
    if len(runs) > 1:
        return table
    f1 = f1_table(runs, headline)
    rows = tuple((*row, other[-1]) for row, other in zip(table.rows, f1.rows, strict=True))
    return Table("Classes", ("class", "examples", "acc. (%)", "F1"), rows)


def f1_table(runs: Sequence[RunReport], headline: Subject | None) -> Table:
    """One row a class, at the latest evaluated round: F1."""
    return _by_class("Classes: F1", runs, headline, lambda c: decimal(c.f1, 2))


def _by_class(
    title: str,
    runs: Sequence[RunReport],
    headline: Subject | None,
    cell: Callable[[ClassScore], str],
) -> Table:
    scores = [_class_scores(run, headline) for run in runs]
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.classes):
        found = [classes.get(name) for classes in scores]
        examples = next((c.examples for c in found if c), None)
        if any(found):
            cells = (cell(c) if c else UNKNOWN for c in found)
            rows.append((visible(name), count(examples), *cells))
    columns = ("class", "examples", *(visible(run.label) for run in runs))
    return Table(title, columns, tuple(rows))


def _class_scores(run: RunReport, headline: Subject | None) -> dict[str, ClassScore]:
    latest = run.latest(headline) if headline else None
    return {score.name: score for score in latest[1].per_class} if latest else {}
