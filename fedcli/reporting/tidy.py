"""The report as tidy CSV: one row per measured value, for any tool to filter and pivot.

Columns
    run         label of the run
    round       round number; empty for facts of the whole run
    model       ``global``, ``update`` or ``personal`` for scores; empty otherwise
    client      whose update, training or examples; empty if it belongs to no client
    data        ``test``, ``client-test``, ``validation`` or the name of other data, for scores
    data_client whose examples, of client-test and validation
    classes     the classes an evaluation was limited to, joined by ``;``; empty for all
    class       the class that the value is about; empty for all together
    measure     what was measured
    value       a number; 1 for ``algorithm`` and ``strategy``, whose names are ``data``

Text is printable and no formula (``spreadsheet_text``); values are numbers.
``docs/commands/report.md`` lists the measures; those of a table are declared with its columns. A
value that is not known has no row.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator

from fedcli.formats.evaluation import Score
from fedcli.reporting.columns import CLASSES, HETEROGENEITY, ROUNDS, SCORES, UPDATES, UpdateRow
from fedcli.reporting.layout import Column, Row
from fedcli.reporting.model import Report, RoundReport, RunReport
from fedcli.text import spreadsheet_text

HEADER = (
    "run",
    "round",
    "model",
    "client",
    "data",
    "data_client",
    "classes",
    "class",
    "measure",
    "value",
)

SETUP = (
    *("seed", "clients", "rounds", "alpha", "epochs", "steps", "lr", "batch_size", "momentum"),
    *("mu", "proximal", "temperature", "feddyn_alpha", "server_lr", "server_momentum", "trim"),
    *("byzantine", "clip_norm", "q"),
)
Cells = dict[str, object]


def to_csv(report: Report) -> str:
    """Return the report as CSV with a header line; line ends are single newlines."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    for run in report.runs:
        for row in _run(run):
            if row["value"] is not None:
                writer.writerow(_safe({"run": run.label, **row}))
    return text.getvalue()


def _safe(row: Cells) -> Cells:
    return {
        name: spreadsheet_text(cell) if isinstance(cell, str) else cell
        for name, cell in row.items()
    }


def _measured(columns: Iterable[Column[Row]], row: Row) -> Iterator[Cells]:
    for column in columns:
        if column.measure:
            yield {"measure": column.measure, "value": column.find(row)}


def _run(run: RunReport) -> Iterator[Cells]:
    yield from _setup(run)
    if run.heterogeneity:
        yield from _measured(HETEROGENEITY, run.heterogeneity)
    for client in run.clients:
        for name, value in zip(run.classes, client.label_counts or (), strict=False):
            yield {"client": client.client, "class": name, "measure": "label_count", "value": value}
    for round_ in run.rounds:
        for row in _round(round_):
            yield {"round": round_.number, **row}


def _setup(run: RunReport) -> Iterator[Cells]:
    """Yield what runs of a comparison may differ in: the names of their methods, and options."""
    last = next(iter(reversed(run.trained_rounds())), None)
    names = {"algorithm": run.training.get("algorithm"), "strategy": last and last.strategy}
    for name, value in names.items():
        if value:
            yield {"measure": name, "data": value, "value": 1}
    found = {**run.parameters, **run.training, **(last.options if last else {})}
    found |= {"seed": run.seed, "clients": len(run.clients), "rounds": len(run.trained_rounds())}
    for name in SETUP:
        if type(found.get(name)) in (int, float):
            yield {"measure": name, "value": found[name]}


def _round(round_: RoundReport) -> Iterator[Cells]:
    yield from _measured(ROUNDS, round_)
    for client in round_.clients:
        for row in _measured(UPDATES, UpdateRow(round_, client)):
            yield {"client": client.client, **row}
    for name in ("missing", "late", "rejected"):
        times = Counter(absence.client for absence in getattr(round_, name))
        for who, number in times.items():
            yield {"client": who, "measure": name, "value": number}
    for who in round_.sampled or ():
        yield {"client": who, "measure": "sampled", "value": 1}
    for score in round_.scores:
        yield from _score(score)


def _score(score: Score) -> Iterator[Cells]:
    subject = {
        "model": score.model,
        "client": score.client or "",
        "data": score.data,
        "data_client": score.data_client or "",
        "classes": ";".join(score.classes or ()),
    }
    for row in _measured(SCORES, score):
        yield {**subject, **row}
    for entry in score.per_class:
        for row in _measured(CLASSES, entry):
            yield {**subject, "class": entry.name, **row}
