"""The columns of tables that compare runs, or methods: each is judged, and the best stands out."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from fedcli.reporting.columns import spent_columns
from fedcli.reporting.fairness import MethodFairness
from fedcli.reporting.layout import CellKind, Column, Heading, Row, duration, megabytes, one_decimal
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Attainment, Fairness, Spread, Summary
from fedcli.reporting.target import MethodAttainment
from fedcli.text import printable

METHOD = Heading("method", CellKind.TEXT, width=30)


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
