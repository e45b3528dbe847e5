"""The tables that compare methods, and say how each was made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from fedcli.reporting.columns import spent_columns
from fedcli.reporting.comparison_columns import best_by, megabytes_spread, plus_minus
from fedcli.reporting.grouping import differing, short_value, telling
from fedcli.reporting.layout import (
    UNKNOWN,
    CellKind,
    Column,
    Heading,
    Table,
    tabulate,
    two_decimals,
)
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.recipe import SEEDS
from fedcli.reporting.report import Method, MethodRound, Report, Spread
from fedcli.reporting.run_report import Recipe, RunReport
from fedcli.reporting.sparkline import spread
from fedcli.text import printable

_METHOD = Heading("method", CellKind.TEXT, width=30)
_WHAT = Heading("", CellKind.TEXT)
_SEEDS = 6  # columns of single runs, above which only their range is shown
_OPTIONS = 5  # columns of options that differ
_MOST = 8  # devices, versions of a program, and clients that left the plan
_LONGEST = 300  # characters of what methods have in common, of one kind
# What identifies data and inputs is compared, but says little in words.
_HIDDEN = ("content", "classes", "dtype")
_SPEAKING = ("dataset", "model", "scheme", "algorithm", "strategy")


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
    note = "mean ± sample standard deviation of the runs" if _is_repeated(report) else ""
    return tabulate("", _METHOD, columns, rows, *filter(None, (note,)), keep_empty=True)


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


def _is_repeated(report: Report) -> bool:
    return any(method.n > 1 for method in report.methods)


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
    if not _is_repeated(report):
        return Table(title, (_METHOD,), ())
    columns: list[Column[Method]]
    if len(names) <= _SEEDS and all(_apart(one, seeds) for one in report.methods):
        columns = [_of_seed(name, values, seeds, metric) for name in names]
    else:
        columns = [_ranked(*each, values, metric) for each in (("lowest", min), ("highest", max))]
    rows = ((printable(method.label), method) for method in report.methods)
    return tabulate(title, _METHOD, columns, rows, keep_empty=True)


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
            _METHOD,
            columns,
            rows,
            *([note] if len(picked) < len(numbers) else []),
        )


def _in_round(number: int, metric: Metric) -> Column[Method]:
    def value(method: Method) -> Spread | None:
        found = next((r for r in method.rounds if r.number == number), None)
        return found.scores.get(metric.name) if found else None

    return Column(f"round {number}", value, _shown(metric))


def recipe_table(run: RunReport, *, commands: bool = True) -> Table:
    """Return how a run was made, one row per subject."""
    headings = (_WHAT, Heading("how it was made", CellKind.TEXT))
    rows = [row for row in recipe_rows(run.recipe) if commands or row[0] != "commands"]
    return Table("How it was made", headings, tuple(rows))


def recipe_rows(recipe: Recipe, without: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield each subject of how a run was made, and what is known of it in words."""
    sections = {
        "data": recipe.data,
        "model": recipe.model,
        "partition": recipe.partition,
        "training": recipe.train,
        "aggregation": recipe.aggregate,
        "seeds": recipe.seeds,
    }
    for name, options in sections.items():
        shown = {key: value for key, value in options.items() if key not in without}
        if text := _options(shown, len(recipe.data.get("classes", ()))):
            yield name, text
    if recipe.departures:
        yield "left the plan", printable(_first(recipe.departures, "; "))
    if recipe.versions:
        found = (f"{name} {_first(which, ' and ')}" for name, which in recipe.versions.items())
        yield "software", printable(", ".join(found))
    if recipe.hardware:
        yield "hardware", printable(_first(recipe.hardware, "; "))
    for command in recipe.commands:
        yield "commands", printable(command)


def _first(items: Sequence[str], separator: str) -> str:
    """Join the first of them, and count the others: every client may have a device of its own."""
    more = [f"{len(items) - _MOST} more"] if len(items) > _MOST else []
    return separator.join([*items[:_MOST], *more])


def _options(options: Mapping[str, Any], classes: int) -> str:
    own = {"classes": f"{classes} classes"} if classes and "classes" in options else {}
    parts = [
        own.get(key) or _option(key, value)
        for key, value in options.items()
        if key in own or key not in _HIDDEN
    ]
    return printable(", ".join(parts))


def _option(key: str, value: Any) -> str:
    if key == "shape" and isinstance(value, tuple | list):
        return "×".join(map(str, value))
    name = key.replace("_", " ")
    if value is True:
        return name
    return short_value(value) if key in _SPEAKING else f"{name} {short_value(value)}"


def differences_table(report: Report, limit: int = _OPTIONS) -> Table:
    """Return the options in which methods differ, one row each, and below what all have in common.

    At most ``limit`` options are columns; the note names the others.
    """
    recipes = {run.label: run.recipe for run in report.runs}
    keys = _asked_for_first(list(recipes.values()))
    columns = [_differing(key, recipes) for key in keys[:limit]]
    columns.append(Column("seeds", lambda method: _seeds(method, recipes), kind=CellKind.TEXT))
    rows = ((printable(method.label), method) for method in report.methods)
    notes = [f"in common: {_common(list(recipes.values()), keys)}"]
    if more := [key.replace("_", " ") for key in keys[limit:]]:
        notes.insert(0, f"they differ in {', '.join(more)} too: see --json")
    return tabulate("How they were made", _METHOD, columns, rows, *notes)


def telling_columns(report: Report) -> list[Column[Method]]:
    """Return the options that tell methods apart, where methods are called by these.

    Empty where each run is called by its own name, or where no options tell them apart.
    """
    options = [method.differs for method in report.methods]
    keys = telling(options, differing(options)) if _is_repeated(report) else []
    recipes = {run.label: run.recipe for run in report.runs}
    columns = [_differing(key, recipes) for key in keys]
    found = {tuple(one.cell(method) for one in columns) for method in report.methods}
    return columns if len(found) == len(report.methods) else []


def _asked_for_first(recipes: Sequence[Recipe]) -> list[str]:
    """Return the options that differ; those of the rule, which often follow from others, last."""
    of_rule = {key for recipe in recipes for key in recipe.aggregate}
    return sorted(differing([recipe.options for recipe in recipes]), key=of_rule.__contains__)


def _differing(key: str, recipes: Mapping[str, Recipe]) -> Column[Method]:
    def value(method: Method) -> str | None:
        found = [recipes[label].options.get(key) for label in method.runs]
        known = dict.fromkeys(printable(short_value(v), 60) for v in found if v is not None)
        return " or ".join(known) or None

    return Column(key.replace("_", " "), value, kind=CellKind.TEXT)


def _seeds(method: Method, recipes: Mapping[str, Recipe]) -> str:
    seeds = [recipes[label].seeds for label in method.runs]
    parts = []
    for key in dict.fromkeys(key for one in seeds for key in one):
        values = dict.fromkeys(str(one.get(key, one.get("seed", UNKNOWN))) for one in seeds)
        name = "" if key == "seed" else f"{key.removesuffix('_seed')} "
        parts.append(f"{name}{', '.join(values)}")
    return "; ".join(parts)


def _common(recipes: Sequence[Recipe], keys: Sequence[str]) -> str:
    """Return the options that no recipe differs in, and the programs and devices of all."""
    versions: dict[str, tuple[str, ...]] = {}
    for recipe in recipes:
        for name, which in recipe.versions.items():
            versions[name] = tuple(dict.fromkeys((*versions.get(name, ()), *which)))
    hardware = tuple(dict.fromkeys(one for recipe in recipes for one in recipe.hardware))
    common = replace(recipes[0], versions=versions, hardware=hardware, departures=(), commands=())
    rows = recipe_rows(common, (*keys, *SEEDS))
    return "; ".join(printable(text, _LONGEST) for _, text in rows)
