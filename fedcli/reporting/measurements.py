"""Every measured value of a run, one at a time, with what it is about.

The measures of a table are declared with its columns, in ``columns``;
``docs/commands/report.md`` lists them all. A value that is not known is not there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fedcli.formats.evaluation import Score
from fedcli.reporting.columns import CLASSES, HETEROGENEITY, ROUNDS, SCORES, UPDATES, UpdateRow
from fedcli.reporting.comparison_columns import attainment_columns, fairness_columns
from fedcli.reporting.layout import Column, Row
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RoundReport, RunReport

PARTITION, ROUND, UPDATE, PARTICIPATION = "partition", "round", "update", "participation"


class Measurement(NamedTuple):
    """One value of one round.

    ``subject`` is ``partition`` (how the examples were cut, in round 0), ``round``, ``update`` or
    ``participation`` (of ``client``), or, for a score, the kind of model and the data in words:
    ``global on test``. What a target took is about ``target accuracy 0.8``. ``client`` is whose
    model was scored, or whose data; ``class_name`` is the class that the value is about. Both are
    None for a value of all together.
    """

    round: int
    subject: str
    measure: str
    value: float
    client: str | None = None
    class_name: str | None = None


def measurements(run: RunReport) -> Iterator[Measurement]:
    """Yield the measured values of a run, in the order of rounds."""
    yield from _partition(run)
    for round_ in run.rounds:
        yield from _round(round_)


def judgements(report: Report, run: RunReport) -> Iterator[Measurement]:
    """Yield what one run of a report needed to reach the target, and how fair it is to clients.

    A target that is not reached is of the last round that was evaluated.
    """
    metric, target = report.judged_by, report.target
    last = next((row.round for row in report.summary if row.label == run.label), None)
    for attained in (one for one in report.attainments if one.label == run.label):
        if attained.best is None or last is None or target is None:
            continue
        number = last if attained.round is None else attained.round
        for measure, value in _measured(attainment_columns(metric), attained):
            yield Measurement(number, f"target {metric.name} {target:g}", measure, value)
    for fairness in (one for one in report.fairness if one.label == run.label):
        for measure, value in _measured(fairness_columns(metric), fairness):
            yield Measurement(fairness.round, f"global on {fairness.data}", measure, value)


def _measured(columns: Iterable[Column[Row]], row: Row) -> Iterator[tuple[str, float]]:
    for column in columns:
        if column.measure and (value := column.find(row)) is not None:
            yield column.measure, value


def _partition(run: RunReport) -> Iterator[Measurement]:
    if run.heterogeneity:
        for measure, value in _measured(HETEROGENEITY, run.heterogeneity):
            yield Measurement(0, PARTITION, measure, value)
    for client in run.clients:
        for name, count in zip(run.classes, client.label_counts or (), strict=False):
            yield Measurement(0, PARTITION, "label_count", count, client.client, name)


def _round(round_: RoundReport) -> Iterator[Measurement]:
    number = round_.number
    for measure, value in _measured(ROUNDS, round_):
        yield Measurement(number, ROUND, measure, value)
    for client in round_.clients:
        for measure, value in _measured(UPDATES, UpdateRow(round_, client)):
            yield Measurement(number, UPDATE, measure, value, client.client)
    for name in ("missing", "late", "rejected"):
        times = Counter(absence.client for absence in getattr(round_, name))
        for who, count in times.items():
            yield Measurement(number, PARTICIPATION, name, count, who)
    for who in round_.sampled or ():
        yield Measurement(number, PARTICIPATION, "sampled", 1, who)
    for score in round_.scores:
        yield from _score(number, score)


def _score(number: int, score: Score) -> Iterator[Measurement]:
    subject, client = _subject(score), score.client or score.data_client
    for measure, value in _measured(SCORES, score):
        yield Measurement(number, subject, measure, value, client)
    for entry in score.per_class:
        for measure, value in _measured(CLASSES, entry):
            yield Measurement(number, subject, measure, value, client, entry.name)


def _subject(score: Score) -> str:
    """Return which model was scored on which data, without the client that it belongs to."""
    text = f"{score.model} on {score.data}"
    if score.data_client and score.client not in (None, score.data_client):
        text += f" of client {score.data_client}"
    return f"{text}, only {', '.join(score.classes)}" if score.classes else text
