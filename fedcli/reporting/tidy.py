"""The report as tidy CSV: one row a measured value, so that any tool can filter and pivot it.

Columns
    run         label of the run
    round       round number; empty for facts of the whole run
    model       ``global``, ``update`` or ``personal`` for scores; empty otherwise
    client      whose update, training or examples; empty where it is nobody's in particular
    data        ``test``, ``client-test``, ``validation`` or the name of other data, for scores
    data_client whose examples, of client-test and validation
    classes     the classes an evaluation was limited to, joined by ``;``; empty for all
    class       the class that a value is about; empty for all together
    measure     what was measured, see below
    value       a number

Measures
    of runs     jensen_shannon_distance, earth_movers_distance, gini_of_sizes (how much the clients'
                examples differ)
    of scores   examples, loss, accuracy, balanced_accuracy, macro_f1, auc, f1 (shares from 0 to 1)
    of rounds   bytes_up, bytes_down, bytes_total (with all earlier rounds),
                training_seconds_max, training_seconds_sum, aggregation_seconds, evaluation_seconds
    of clients  num_examples, weight, bytes, seconds, images_per_second, peak_memory_bytes,
                local_loss, local_accuracy (after the last epoch), label_count (for each class),
                update_norm, update_cosine, update_distance, update_kept (1 or 0), staleness (rounds
                since the one that an update was trained for); sampled, missing, rejected: 1 in the
                rounds where the client was; late (updates that were found to be too late)

A value that is not known has no row.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from fedcli.formats.evaluation import Score
from fedcli.reporting.model import Participation, Report, RoundReport, RunReport

COLUMNS = (
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
_SCORE = ("examples", "loss", "accuracy", "balanced_accuracy", "macro_f1", "auc")
_ROUND = (
    "bytes_up",
    "bytes_down",
    "bytes_total",
    "training_seconds_max",
    "training_seconds_sum",
    "aggregation_seconds",
    "evaluation_seconds",
)
_CLIENT = ("num_examples", "weight", "bytes", "seconds", "images_per_second", "peak_memory_bytes")

Row = dict[str, object]


def to_csv(report: Report) -> str:
    """Return the report as CSV with a header line; line ends are single newlines."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for run in report.runs:
        for row in _run(run):
            if row["value"] is not None:
                writer.writerow({"run": run.label, **row})
    return text.getvalue()


def _run(run: RunReport) -> Iterator[Row]:
    if run.heterogeneity:
        for measure, value in asdict(run.heterogeneity).items():
            yield {"measure": measure, "value": value}
    for client in run.clients:
        for name, value in zip(run.classes, client.label_counts or (), strict=False):
            yield {"client": client.client, "class": name, "measure": "label_count", "value": value}
    for round_ in run.rounds:
        for row in _round(round_):
            yield {"round": round_.number, **row}


def _round(round_: RoundReport) -> Iterator[Row]:
    for measure in _ROUND:
        yield {"measure": measure, "value": getattr(round_, measure)}
    for client in round_.clients:
        for row in _participation(round_, client):
            yield {"client": client.client, **row}
    for name in ("missing", "late", "rejected"):
        times = Counter(absence.client for absence in getattr(round_, name))
        for who, number in times.items():
            yield {"client": who, "measure": name, "value": number}
    for who in round_.sampled or ():
        yield {"client": who, "measure": "sampled", "value": 1}
    for score in round_.scores:
        of_what = {
            "model": score.model,
            "client": score.client or "",
            "data": score.data,
            "data_client": score.data_client or "",
            "classes": ";".join(score.classes or ()),
        }
        for row in _score(score):
            yield {**of_what, **row}


def _participation(round_: RoundReport, client: Participation) -> Iterator[Row]:
    for measure in _CLIENT:
        yield {"measure": measure, "value": getattr(client, measure)}
    for measure in ("norm", "cosine", "distance"):
        yield {"measure": f"update_{measure}", "value": getattr(client, measure)}
    if round_.strategy:
        yield {"measure": "update_kept", "value": int(client.kept)}
        yield {"measure": "staleness", "value": round_.number - client.update_round}
    if client.epochs:
        yield {"measure": "local_loss", "value": client.epochs[-1].loss}
        yield {"measure": "local_accuracy", "value": client.epochs[-1].accuracy}


def _score(score: Score) -> Iterator[Row]:
    for measure in _SCORE:
        yield {"measure": measure, "value": getattr(score, measure)}
    for entry in score.per_class:
        for measure in ("examples", "accuracy", "f1"):
            yield {"class": entry.name, "measure": measure, "value": getattr(entry, measure)}
