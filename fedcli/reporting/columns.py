"""The columns of a report: terminal, Markdown, HTML and CSV derive from these declarations.

To add a column, add a ``Column`` to the tuple of its table below. If the report does not hold the
value yet, add a field to its record in ``run_report``; ``collect`` fills in a field that is called
as in ``Telemetry``, ``Contribution`` or ``Manifest``, and computes others.
``docs/commands/report.md`` lists every ``measure``.
"""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from fedcli.formats.evaluation import ClassScore, Score
from fedcli.formats.partition import Heterogeneity
from fedcli.reporting.fairness import MethodFairness
from fedcli.reporting.layout import (
    CellKind,
    Column,
    Row,
    duration,
    megabytes,
    one_decimal,
    percent,
    significant,
    three_decimals,
    two_decimals,
)
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Attainment, Fairness, Spread, Summary
from fedcli.reporting.run_report import ClientReport, ClientRound, RoundReport
from fedcli.reporting.sparkline import bars
from fedcli.reporting.target import MethodAttainment
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


def best_by(metric: Metric, value: str | Callable[[Row], Any]) -> Callable[[Row], float | None]:
    """Return the merit of rows by a metric, which is a number or a ``Spread`` in each."""
    return _merit(value, metric.show, 1 if metric.gain(1) > 0 else -1)


def _merit(
    value: str | Callable[[Row], Any], show: Callable[[float], str], sign: int
) -> Callable[[Row], float | None]:
    """Judge a row by its value as it is shown: what reads the same is as good."""
    find = attrgetter(value) if isinstance(value, str) else value

    def merit(row: Row) -> float | None:
        found = find(row)
        number = found.mean if isinstance(found, Spread) else found
        shown = math.nan if number is None else float(show(number))
        return None if math.isnan(shown) else sign * shown

    return merit


def _least(
    value: str | Callable[[Row], Any], show: Callable[[float], str]
) -> Callable[[Row], float | None]:
    return _merit(value, show, -1)


def judging(metric: Metric) -> tuple[Column[Score], ...]:
    """Return the columns of a score that a run is judged by over its rounds."""
    return tuple(METRICS[name].column for name in dict.fromkeys((metric.name, "loss")))


CLASSES = (
    _Class("examples", "examples", measure="examples"),
    _Class("acc. (%)", "accuracy", percent, "accuracy", side_by_side="Classes: accuracy (%)"),
    _Class("F1", "f1", two_decimals, "f1", side_by_side="Classes: F1"),
)


# Of two classes, where an accuracy says little if one is rare.
_OF_TWO = ("accuracy", "balanced_accuracy", "auc", "sensitivity", "specificity")


_INTERVAL = "[low, high]: 95 % interval"


def summary_columns(
    metric: Metric, rows: Sequence[Summary], *, two_classes: bool
) -> list[Column[Summary]]:
    """Return the columns of the main table, for runs judged by ``metric``."""

    def value(row: Summary) -> str | None:
        return None if row.value is None else _with_interval(metric, row.value, row)

    def best(row: Summary) -> str | None:
        return None if row.best is None else f"{metric.show(row.best)} (round {row.best_round})"

    explained = _INTERVAL if any(metric.name in row.intervals for row in rows) else ""
    # an interval takes the room of two figures, which the table of intervals has too
    names = _OF_TWO[: 3 if explained else None] if two_classes else _OF_TWO[:1]
    others = [METRICS[name] for name in names]
    return [
        Column("rounds", "round"),
        Column(metric.axis, value, legend=explained, merit=best_by(metric, "value")),
        *(
            Column(one.heading, one.name, one.show, merit=best_by(one, one.name))
            for one in others
            if one != metric
        ),
        Column("best (%)" if metric.scale == 100 else "best", best, merit=best_by(metric, "best")),
        Column("communication (MB)", "bytes_total", megabytes),
        *(column for column in spent_columns(Summary) if any(map(column.find, rows))),
    ]


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


def _with_interval(metric: Metric, value: float, row: Summary) -> str:
    """Write a metric with its interval, if there is one: ``71.2 [68.9, 73.4]``."""
    bounds = row.intervals.get(metric.name, ())
    shown = ", ".join(map(metric.show, bounds))
    return f"{metric.show(value)} [{shown}]" if shown else metric.show(value)


_TIME = "time: the slowest client of each round, aggregation and evaluation"


def attainment_columns(metric: Metric) -> list[Column[Attainment]]:
    """Return the columns of what runs needed to reach a target."""

    def rounds(row: Attainment) -> str:
        missed = "not evaluated" if row.best is None else "not reached"
        return missed if row.round is None else str(row.round)

    return [
        Column(
            "rounds",
            rounds,
            legend="rounds: the first evaluated one that reaches it",
            merit=_least("round", str),
        ),
        Column("", lambda row: int(row.round is not None), measure="target_reached"),
        Column("", "round", measure="rounds_to_target"),
        Column(
            "communication (MB)",
            "bytes_total",
            megabytes,
            "bytes_to_target",
            merit=_least("bytes_total", megabytes),
        ),
        Column(
            "time (s)",
            "seconds",
            duration,
            "seconds_to_target",
            legend=_TIME,
            merit=_least("seconds", duration),
        ),
        Column(metric.heading, "value", metric.show),
        Column("best", "best", metric.show, merit=best_by(metric, "best")),
    ]


def plus_minus(show: Callable[[float], str]) -> Callable[[Spread], str]:
    """Return how a spread over runs is written: ``71.2 ± 0.8``, or the value of a single run."""

    def shown(spread: Spread) -> str:
        mean = show(spread.mean)
        return mean if spread.std is None else f"{mean} ± {show(spread.std)}"

    return shown


def megabytes_spread(spread: Spread) -> str:
    """Write bytes in MB with their deviation, unless it is 0 with the decimals of the mean."""
    mean = megabytes(round(spread.mean))
    std = f"{(spread.std or 0) / 1e6:.{len(mean.partition('.')[2])}f}"
    return f"{mean} ± {std}" if float(std) else mean


def method_attainment_columns(metric: Metric) -> list[Column[MethodAttainment]]:
    """Return the columns of what the runs of methods needed to reach a target."""

    def reached(row: MethodAttainment) -> str:
        return f"{row.reached} of {row.runs}" if row.evaluated else "not evaluated"

    def rounds(row: MethodAttainment) -> str | None:
        if row.evaluated and not row.reached:
            return "not reached"
        return None if row.rounds is None else plus_minus(one_decimal)(row.rounds)

    def least(
        name: str, show: Callable[[float], str]
    ) -> Callable[[MethodAttainment], float | None]:
        return _least(lambda row: getattr(row, name) if row.reached == row.runs else None, show)

    note = "mean ± standard deviation of the runs that reach it"
    return [
        Column("runs", reached),
        Column("rounds", rounds, legend=note, merit=least("rounds", one_decimal)),
        Column(
            "communication (MB)",
            "bytes_total",
            megabytes_spread,
            merit=least("bytes_total", megabytes),
        ),
        Column(
            "time (s)",
            "seconds",
            plus_minus(duration),
            legend=_TIME,
            merit=least("seconds", duration),
        ),
        Column("best", "best", plus_minus(metric.show), merit=best_by(metric, "best")),
    ]


def method_fairness_columns(metric: Metric) -> list[Column[MethodFairness]]:
    """Return the columns of how a metric spreads over clients in the runs of methods."""
    shown = plus_minus(metric.show)
    return [
        Column("data", "data", kind=CellKind.TEXT),
        Column("runs", "runs"),
        Column("mean", "mean", shown, merit=best_by(metric, "mean")),
        Column(
            "std",
            "std",
            shown,
            legend="std: over clients; ±: over runs",
            merit=_least("std", metric.show),
        ),
        _worst_tenth(metric, shown),
        Column("worst", "worst", shown, merit=best_by(metric, "worst")),
    ]


def fairness_columns(metric: Metric) -> list[Column[Fairness]]:
    """Return the columns of how a metric spreads over clients."""

    def worst(row: Fairness) -> str:
        return f"{metric.show(row.worst)} ({printable(row.worst_client)})"

    return [
        Column("data", "data", kind=CellKind.TEXT),
        Column("round", "round"),
        Column("clients", "clients"),
        Column("mean", "mean", metric.show, f"{metric.name}_mean", merit=best_by(metric, "mean")),
        Column(
            "std",
            "std",
            metric.show,
            f"{metric.name}_std",
            legend="std: over clients",
            merit=_least("std", metric.show),
        ),
        _worst_tenth(metric, metric.show),
        Column(
            "worst",
            worst,
            legend="worst: the client is in brackets",
            merit=best_by(metric, "worst"),
        ),
        Column("", "worst", measure=f"{metric.name}_worst"),
        Column(
            "without",
            lambda row: row.without or None,
            legend=f"without: clients that have no {metric.title}",
        ),
    ]


def _worst_tenth(metric: Metric, show: Callable[[Any], str]) -> Column[Any]:
    return Column(
        "worst 10 %",
        "worst_tenth",
        show,
        f"{metric.name}_worst_tenth",
        legend="worst 10 %: their mean",
        merit=best_by(metric, "worst_tenth"),
    )


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
