"""``fedcli train-client --list``: local algorithms, and what else training chooses by name."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from fedcli.algorithms import ALGORITHMS, LocalAlgorithm
from fedcli.plan.schedules import SCHEDULES
from fedcli.plan.train import AUGMENTATIONS, OPTIMIZERS

Listed = dict[str, dict[str, dict[str, Any]]]

_OPTIONS = {
    "algorithms": "--algorithm",
    "optimizers": "--optimizer",
    "schedules": "--lr-schedule",
    "augmentations": "--augment",
}


def algorithms() -> Listed:
    """Return all choices by kind and name; options with their defaults, null where required."""
    return {
        "algorithms": {name: _algorithm(row) for name, row in ALGORITHMS.items()},
        "optimizers": {name: _described(row) for name, row in OPTIMIZERS.items()},
        "schedules": {
            name: {**_described(row), "options": dict.fromkeys(row.needs)}
            for name, row in SCHEDULES.items()
        },
        "augmentations": {name: _described(row) for name, row in AUGMENTATIONS.items()},
    }


def _described(row: Any) -> dict[str, Any]:
    return {"summary": row.summary, "source": row.source, "options": {}}


def _algorithm(row: type[LocalAlgorithm]) -> dict[str, Any]:
    return {**_described(row), "options": row().options, "strategy": row.strategy}


def render_algorithms(listed: Listed) -> list[RenderableType]:
    """Draw one table a kind, in 80 columns."""
    parts: list[RenderableType] = []
    for kind, rows in listed.items():
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(_OPTIONS[kind], no_wrap=True, width=13)
        table.add_column("what it is", width=40)
        table.add_column("source", width=23)
        for name, row in rows.items():
            table.add_row(name, "\n".join([row["summary"], *_notes(row)]), row["source"])
        parts += [table, ""]
    return [*parts, "With every algorithm that has no such term: --proximal MU"]


def _notes(row: Mapping[str, Any]) -> list[str]:
    options = ", ".join(_option(name, value) for name, value in row["options"].items())
    strategy = row.get("strategy", "fedavg")
    return [
        *([options] if options else []),
        *([f"aggregated with --strategy {strategy}"] if strategy != "fedavg" else []),
    ]


def _option(name: str, default: Any) -> str:
    option = f"--{name.replace('_', '-')}"
    return option if default is None else f"{option} {default:g}"
