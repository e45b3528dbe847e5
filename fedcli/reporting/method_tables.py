"""The tables that compare methods."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from fedcli.reporting.columns import spent_columns
from fedcli.reporting.comparison_columns import METHOD, best_by, megabytes_spread, plus_minus
from fedcli.reporting.layout import UNKNOWN, Column, Table, tabulate, two_decimals
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Method, MethodRound, Report, Spread
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.sparkline import spread
from fedcli.text import printable

_SEEDS = 6  # columns of single runs, above which only their range is shown


def methods_table(report: Report) -> Table:
    """Return the main table of a comparison, one row per method, with means over its runs."""
    metric = report.judged_by
    columns = [
        Column[Method]("runs", "n"),
        Column[Method]("rounds", _rounds),
        _mean(metric.axis, metric, attrgetter("final")),
        *(
            _mean(METRICS[name].heading, METRICS[name], attrgetter("final"))
            for name in _others(report)
            if name != metric.name
        ),
        _mean("best (%)" if metric.scale == 100 else "best", metric, attrgetter("best")),
        Column[Method]("communication (MB)", "bytes_total", megabytes_spread),
        *(column for column in _spent_columns() if any(map(column.find, report.methods))),
    ]
    rows = ((printable(method.label), method) for method in report.methods)
    note = "mean ± sample standard deviation of the runs" if report.has_repetitions else ""
    return tabulate("", METHOD, columns, rows, *filter(None, (note,)), keep_empty=True)


def _spent_columns() -> list[Column[Method]]:
    """Return the columns of what was spent of privacy by the last round."""
    return [
        replace(column, show=plus_minus(two_decimals))
        for column in (one.through(_last_of) for one in spent_columns(MethodRound))
    ]


def _last_of(method: Method) -> MethodRound | None:
    return method.rounds[-1] if method.rounds else None


def _others(report: Report) -> Sequence[str]:
    of_two = any(len(run.classes) == 2 for run in report.runs)
    return ("accuracy", "balanced_accuracy", "auc") if of_two else ("accuracy",)


def _mean(
    heading: str, metric: Metric, scores: Callable[[Method], dict[str, Spread]]
) -> Column[Method]:
    def value(method: Method) -> Spread | None:
        return scores(method).get(metric.name)

    return Column(heading, value, _shown(metric), merit=best_by(metric, value))


def _shown(metric: Metric) -> Callable[[Spread], str]:
    return plus_minus(metric.show)


def _rounds(method: Method) -> str | None:
    if method.last_round is None:
        return None
    low, high = method.last_round
    return str(low) if low == high else f"{low}-{high}"


def seeds_table(report: Report) -> Table:
    """Return the metric of every run of each method, by seed; of many runs, their range."""
    metric = report.judged_by
    values = {row.label: row.value for row in report.summary}
    seeds = {run.label: f"seed {run.recipe.seeds.get('seed', UNKNOWN)}" for run in report.runs}
    if not all(_apart(one, seeds) for one in report.methods):
        seeds = {run.label: _all_seeds(run) for run in report.runs}
    names = list(dict.fromkeys(seeds[label] for one in report.methods for label in one.runs))
    title = f"{metric.axis[:1].upper()}{metric.axis[1:]} of the runs"
    if not report.has_repetitions:
        return Table(title, (METHOD,), ())
    columns: list[Column[Method]]
    if len(names) <= _SEEDS and all(_apart(one, seeds) for one in report.methods):
        columns = [_of_seed(name, values, seeds, metric) for name in names]
    else:
        columns = [_ranked(*each, values, metric) for each in (("lowest", min), ("highest", max))]
    rows = ((printable(method.label), method) for method in report.methods)
    return tabulate(title, METHOD, columns, rows, keep_empty=True)


def _all_seeds(run: RunReport) -> str:
    seeds = run.recipe.seeds
    extra = [
        f"{key.removesuffix('_seed')} {value}" for key, value in seeds.items() if key != "seed"
    ]
    return ", ".join([f"seed {seeds.get('seed', UNKNOWN)}", *extra])


def _apart(method: Method, seeds: Mapping[str, str]) -> bool:
    return len({seeds[label] for label in method.runs}) == method.n


def _of_seed(
    name: str, values: Mapping[str, float | None], seeds: Mapping[str, str], metric: Metric
) -> Column[Method]:
    def value(method: Method) -> float | None:
        return next((values[label] for label in method.runs if seeds[label] == name), None)

    return Column(name, value, metric.show)


def _ranked(
    heading: str,
    pick: Callable[[list[float]], float],
    values: Mapping[str, float | None],
    metric: Metric,
) -> Column[Method]:
    def value(method: Method) -> float | None:
        known = [v for label in method.runs if (v := values[label]) is not None]
        return pick(known) if known else None

    return Column(heading, value, metric.show)


def method_rounds_tables(report: Report, limit: int) -> Iterator[Table]:
    """Yield the metric and the loss of each method in at most ``limit`` rounds, evenly spread."""
    numbers = sorted({round_.number for one in report.methods for round_ in one.rounds})
    picked = [numbers[i] for i in spread(len(numbers), limit)]
    for name in dict.fromkeys((report.metric, "loss")):
        metric = METRICS[name]
        columns = [_in_round(number, metric) for number in picked]
        rows = ((printable(method.label), method) for method in report.methods)
        note = f"{len(picked)} of {len(numbers)} rounds; --csv has all"
        yield tabulate(
            f"{metric.axis[:1].upper()}{metric.axis[1:]} by round",
            METHOD,
            columns,
            rows,
            *([note] if len(picked) < len(numbers) else []),
        )


def _in_round(number: int, metric: Metric) -> Column[Method]:
    def value(method: Method) -> Spread | None:
        found = next((r for r in method.rounds if r.number == number), None)
        return found.scores.get(metric.name) if found else None

    return Column(f"round {number}", value, _shown(metric))
