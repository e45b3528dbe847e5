"""What ``fedcli evaluate`` shows of its result, in 80 columns."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.cli.render.tables import figures_table
from fedcli.evaluation.intervals import bootstrap_intervals
from fedcli.reporting.layout import percent, three_decimals
from fedcli.reporting.metric import METRICS
from fedcli.reporting.words import counted, model_named
from fedcli.steps.evaluate import EvaluateResult
from fedcli.text import listed


def render(result: EvaluateResult, then: Sequence[str]) -> list[RenderableType]:
    """Draw scores; ``then`` says what to type next."""
    parts: list[RenderableType] = []
    # one table of several models in several rounds would be too wide
    by_round = [list(group) for _, group in groupby(result.evaluations, itemgetter("round"))]
    if max(map(len, by_round)) == 1:
        by_round = [list(result.evaluations)]
    for entries in by_round:
        parts += _table(entries)
    if len(result.evaluations) == 1:
        parts += [_per_class(result.evaluations[0]), *_intervals(result.evaluations[0])]
    if not result.computed:
        parts.append("These scores were there already; --force computes them again.")
    if result.not_stored:
        parts.append(f"not stored in the run (--store): {counted(result.not_stored, 'score')}")
    return [*parts, *then]


def _table(entries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Draw one row per entry; what all entries share stands once, above the table."""
    facts = {
        "round": [f"round {entry['round']}" for entry in entries],
        "model": [_model(entry) for entry in entries],
        "client": [str(entry["client"] or "") for entry in entries],
        "data": [_data(entry) for entry in entries],
    }
    same = {name for name, values in facts.items() if len(set(values)) == 1}
    if "client" in same:  # the name of the model includes it
        del facts["client"]
        facts["model"] = [model_named(entry["model"], entry["client"]) for entry in entries]
    differing = [name for name in facts if name not in same]
    more = [one for one in _IF_KNOWN if any(entry[one.key] is not None for entry in entries)]
    figures = ["examples", "loss", "acc. (%)", "bal. (%)", "F1", *(one.title for one in more)]
    if differing and len(more) > 1:  # two lines leave room for the names
        figures = [name.replace(" (", "\n(") for name in figures]
    table = figures_table(differing, figures)
    for number, entry in enumerate(entries):
        table.add_row(
            *[facts[name][number] for name in differing],
            str(entry["examples"]),
            f"{entry['loss']:.4f}",
            f"{100 * entry['accuracy']:.1f}",
            f"{100 * entry['balanced_accuracy']:.1f}",
            f"{entry['macro_f1']:.3f}",
            *("" if entry[key] is None else show(entry[key]) for key, _, show in more),
        )
    common = ", ".join(values[0] for name, values in facts.items() if name in same)
    return [*[common] * bool(common), table]


class _Figure(NamedTuple):
    key: str
    title: str
    show: Callable[[float], str]


_IF_KNOWN = (
    _Figure("auc", "AUC", three_decimals),
    _Figure("sensitivity", "sens. (%)", percent),
    _Figure("specificity", "spec. (%)", percent),
)


def _model(entry: Mapping[str, Any]) -> str:
    return "update" if entry["model"] == "update" else f"{entry['model']} model"


def _data(entry: Mapping[str, Any]) -> str:
    name = str(entry["data"])
    if entry["data_client"] not in (None, entry["client"]):
        name = f"{name} of client {entry['data_client']}"
    return f"{name}, only {listed(entry['classes'])}" if entry["classes"] else name


def _intervals(entry: Mapping[str, Any]) -> list[RenderableType]:
    bounds = bootstrap_intervals(entry["confusion"])
    if entry["auc_interval"]:
        bounds["auc"] = entry["auc_interval"]
    shown = [
        f"{metric.axis} {' to '.join(map(metric.show, bounds[name]))}"
        for name, metric in METRICS.items()
        if name in bounds
    ]
    return [Text(f"95 % intervals: {', '.join(shown)}")] if shown else []


def _per_class(entry: Mapping[str, Any]) -> Table:
    table = figures_table(["class"], ["examples", "acc. (%)"])
    table.add_column("", width=20)
    table.add_column("most taken for")
    for number, row in enumerate(entry["per_class"]):
        if row["examples"]:
            wrong = list(entry["confusion"][number])
            wrong[number] = 0
            other = entry["per_class"][wrong.index(max(wrong))]["class"] if any(wrong) else ""
            share = f"{other} ({max(wrong) / row['examples']:.0%})" if other else ""
            bar = "█" * round(20 * row["accuracy"])
            accuracy = f"{100 * row['accuracy']:.1f}"
            table.add_row(row["class"], str(row["examples"]), accuracy, bar, share)
    return table
