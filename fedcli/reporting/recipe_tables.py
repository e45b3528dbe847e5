"""How runs were made, as tables: of one run, and what methods differ in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedcli.reporting.comparison_columns import METHOD
from fedcli.reporting.grouping import differing, short_value, telling
from fedcli.reporting.layout import UNKNOWN, CellKind, Column, Heading, Table, tabulate
from fedcli.reporting.recipe import SEEDS
from fedcli.reporting.report import Method, Report
from fedcli.reporting.run_report import Recipe, RunReport
from fedcli.text import printable

_WHAT = Heading("", CellKind.TEXT)
_OPTIONS = 5  # columns of options that differ
_MOST = 8  # devices, versions of a program, and clients that left the plan
_LONGEST = 300  # characters of what methods have in common, of one kind
# What identifies data and inputs is compared, but says little in words.
_HIDDEN = ("content", "classes", "dtype")
_SPEAKING = ("dataset", "model", "scheme", "algorithm", "strategy")


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
    return tabulate("How they were made", METHOD, columns, rows, *notes)


def telling_columns(report: Report) -> list[Column[Method]]:
    """Return the options that tell methods apart, where methods are called by these.

    Empty where each run is called by its own name, or where no options tell them apart.
    """
    options = [method.differs for method in report.methods]
    keys = telling(options, differing(options)) if report.has_repetitions else []
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
