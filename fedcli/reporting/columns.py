"""The columns of a report: terminal, Markdown, HTML and CSV derive from these declarations.

To add a column, add a ``Column`` to the tuple of its table below. If the report does not hold the
value yet, add a field to its record in ``run_report``; ``collect`` fills in a field that is called
as in ``Telemetry``, ``Contribution`` or ``Manifest``, and computes others.
``docs/commands/report.md`` lists every ``measure``.
"""

from typing import NamedTuple

from fedcli.formats.evaluation import ClassScore, Score
from fedcli.formats.partition import Heterogeneity
from fedcli.reporting.layout import (
    CellKind,
    Column,
    Row,
    duration,
    megabytes,
    percent,
    significant,
    three_decimals,
    two_decimals,
)
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.run_report import ClientReport, ClientRound, RoundReport
from fedcli.reporting.sparkline import bars
from fedcli.text import printable


class UpdateRow(NamedTuple):
    """One update of a round, and in words what makes it stand out."""

    round: RoundReport
    client: ClientRound
    marks: str | None = None


_Score, _Class, _Round = Column[Score], Column[ClassScore], Column[RoundReport]
_Update, _Client = Column[UpdateRow], Column[ClientReport]

LOSS = METRICS["loss"].column
SCORES = (
    _Score("examples", "examples", measure="examples"),
    LOSS,
    *(metric.column for metric in METRICS.values() if metric.name != "loss"),
)


def judging(metric: Metric) -> tuple[Column[Score], ...]:
    """Return the columns of a score that a run is judged by over its rounds."""
    return tuple(METRICS[name].column for name in dict.fromkeys((metric.name, "loss")))


CLASSES = (
    _Class("examples", "examples", measure="examples"),
    _Class("acc. (%)", "accuracy", percent, "accuracy", side_by_side="Classes: accuracy (%)"),
    _Class("F1", "f1", two_decimals, "f1", side_by_side="Classes: F1"),
)


def spent_columns(row: type[Row]) -> list[Column[Row]]:
    """Return the columns of what was spent of the privacy of examples and of clients."""
    return [
        Column("ε", "epsilon", two_decimals, "epsilon", "ε: protects each example"),
        Column(
            "ε (clients)",
            "epsilon_clients",
            two_decimals,
            "epsilon_clients",
            "ε (clients): protects each client",
        ),
    ]


def _accepted(round_: RoundReport) -> str:
    """Count the clients of a round, out of those that were expected."""
    absent = len(round_.missing) + len(round_.rejected)
    accepted = len(round_.clients) + round_.clients_in_partials
    return f"{accepted}/{accepted + absent}" if absent else str(accepted)


ROUNDS = (
    _Round("clients", _accepted),
    _Round("up (MB)", "bytes_up", megabytes, "bytes_up"),
    _Round("down (MB)", "bytes_down", megabytes, "bytes_down"),
    _Round(
        "total (MB)",
        "bytes_total",
        megabytes,
        "bytes_total",
        "total: all rounds so far",
        side_by_side="Communication (MB), all rounds so far",
    ),
    *spent_columns(RoundReport),
    _Round(
        "train max (s)",
        "training_seconds_max",
        duration,
        "training_seconds_max",
        "train: the slowest client, and all clients added up",
        summed="train max",
    ),
    _Round(
        "train sum (s)",
        "training_seconds_sum",
        duration,
        "training_seconds_sum",
        summed="train sum",
    ),
    _Round("aggr. (s)", "aggregation_seconds", duration, "aggregation_seconds", summed="aggregate"),
    _Round("eval. (s)", "evaluation_seconds", duration, "evaluation_seconds", summed="evaluate"),
)


def _late_round(update: UpdateRow) -> int | None:
    own = update.client.update_round
    return own if own < update.round.number else None


def _kept(update: UpdateRow) -> str | None:
    """Say whether the rule used an update; None in a round where it used all."""
    if not update.round.leaves_out:
        return None
    return "yes" if update.client.kept else "no"


def _kept_as_number(update: UpdateRow) -> int | None:
    return int(update.client.kept) if update.round.strategy else None


def _staleness(update: UpdateRow) -> int | None:
    return update.round.number - update.client.update_round if update.round.strategy else None


UPDATES = (
    _Update("examples", "client.num_examples", measure="num_examples"),
    _Update("weight", "client.weight", three_decimals, "weight"),
    _Update("", "client.bytes", measure="bytes"),
    _Update("", "client.seconds", measure="seconds"),
    _Update("", "client.images_per_second", measure="images_per_second"),
    _Update("", "client.peak_memory_bytes", measure="peak_memory_bytes"),
    _Update(
        "norm", "client.norm", significant, "update_norm", "norm: length of what training changed"
    ),
    _Update(
        "cosine",
        "client.cosine",
        two_decimals,
        "update_cosine",
        "cosine: with the step of the global model",
    ),
    _Update(
        "distance",
        "client.distance",
        significant,
        "update_distance",
        "distance: from the median of the updates",
    ),
    _Update("round", _late_round, legend="round: that a late update was trained for"),
    _Update("kept", _kept, legend="kept: whether the rule used it"),
    _Update("stands out", "marks", legend="×: times the median", kind=CellKind.TEXT),
    _Update("", _kept_as_number, measure="update_kept"),
    _Update("", _staleness, measure="staleness"),
    _Update("", "client.local_loss", measure="local_loss"),
    _Update("", "client.local_accuracy", measure="local_accuracy"),
)

CLIENTS = (
    _Client("examples", "examples"),
    _Client(
        "labels",
        "label_counts",
        bars,
        legend="labels: examples of each class, in order",
        kind=CellKind.BARS,
    ),
    _Client("loss", "local_loss", three_decimals, legend="loss, acc.: local, after the last epoch"),
    _Client("acc. (%)", "local_accuracy", percent),
    _Client(
        "own (%)", "own_accuracy", percent, legend="own: the client's own model on the test data"
    ),
    _Client(
        "val. (%)",
        "validation_accuracy",
        percent,
        legend="val.: the global model on the client's held-out examples",
    ),
    _Client(
        "test (%)",
        "test_accuracy",
        percent,
        legend="test: the global model on the client's test examples",
    ),
    _Client(
        "pers. (%)",
        "personal_accuracy",
        percent,
        legend="pers.: the client's personal model on its own examples",
    ),
    _Client("weight", "weight", three_decimals),
    _Client("up (MB)", "bytes_up", megabytes),
    _Client("down (MB)", "bytes_down", megabytes, legend="up, down: all rounds added up"),
    _Client("time (s)", "seconds", duration, legend="time: all rounds added up"),
    _Client("device", "device", printable, kind=CellKind.TEXT),
)

PARTICIPATION = (
    _Client("took part", "rounds"),
    _Client("drawn", "sampled", legend="drawn: sampled for the round"),
    _Client("missing", lambda client: client.missing or None),
    _Client(
        "late",
        lambda client: client.late or None,
        legend="late: updates that came after their round",
    ),
    _Client("rejected", lambda client: client.rejected or None),
    _Client(
        "used late",
        lambda client: client.stale or None,
        legend="used late: updates that counted in a later round",
    ),
)

HETEROGENEITY = (
    Column[Heterogeneity](
        "Jensen-Shannon",
        "jensen_shannon_distance",
        three_decimals,
        "jensen_shannon_distance",
        "0: alike, 1: nothing in common; Jensen-Shannon: mean distance of two clients' labels",
    ),
    Column[Heterogeneity](
        "earth mover's",
        "earth_movers_distance",
        three_decimals,
        "earth_movers_distance",
        "earth mover's: of a client's labels from all",
    ),
    Column[Heterogeneity](
        "Gini", "gini_of_sizes", three_decimals, "gini_of_sizes", "Gini: of the clients' sizes"
    ),
)
