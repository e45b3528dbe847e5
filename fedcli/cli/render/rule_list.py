"""``fedcli aggregate --list``: every rule, with its options and where it comes from."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.strategies import STRATEGIES
from fedcli.strategies.reducers import REDUCERS
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS

Rules = dict[str, dict[str, dict[str, Any]]]

_OPTIONS = {
    "strategies": "--strategy",
    "reducers": "--reduce",
    "server_optimizers": "--server-optimizer",
    "weightings": "--weighting",
}


def rules() -> Rules:
    """Return all rules by kind and name; options with their defaults, null where it depends."""
    strategies = {}
    for name, strategy in STRATEGIES.items():
        rule = resolve(AggregatePlan(strategy=name))
        strategies[name] = {
            "summary": strategy.summary,
            "source": strategy.source,
            "reduce": rule.reduce,
            "server_optimizer": rule.server_optimizer,
            "weighting": rule.weighting,
            "options": rule.options,
        }
    return {
        "strategies": strategies,
        "reducers": _described(REDUCERS),
        "server_optimizers": _described(SERVER_OPTIMIZERS),
        "weightings": _described(WEIGHTINGS),
    }


def _described(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    keys = ("summary", "source", "options")
    return {name: {key: getattr(part, key) for key in keys} for name, part in parts.items()}


def render_rules(listed: Rules) -> list[RenderableType]:
    """Draw one table a kind, in 80 columns; strategies that are one reducer are shown as that."""
    parts: list[RenderableType] = []
    for kind, rows in listed.items():
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(_OPTIONS[kind], no_wrap=True, width=18)
        table.add_column("what it is", width=35)
        table.add_column("paper", width=23)
        for name, row in rows.items():
            if kind != "strategies" or name not in listed["reducers"]:
                note = _parts(row, listed) if kind == "strategies" else _options(row["options"])
                table.add_row(name, f"{row['summary']}\n{note}".strip(), row["source"])
        parts += [table, ""]
    names = ", ".join(name for name in listed["strategies"] if name in listed["reducers"])
    return [*parts, Text(f"Strategies by the name of their reducer: {names}")]


def _parts(strategy: Mapping[str, Any], listed: Rules) -> str:
    """Name the parts of a strategy, and its options that are not theirs."""
    kinds = {
        "reduce": "reducers",
        "server_optimizer": "server_optimizers",
        "weighting": "weightings",
    }
    usual: dict[str, Any] = {}
    for key, kind in kinds.items():
        usual |= listed[kind][strategy[key]]["options"]
    own = {name: value for name, value in strategy["options"].items() if value != usual[name]}
    return "= " + ", ".join([*(strategy[key] for key in kinds), *([_options(own)] if own else [])])


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(_option(name, value) for name, value in options.items())


def _option(name: str, default: Any) -> str:
    words = name.replace("_", "-")
    if isinstance(default, bool):
        return f"--{words}" if default else f"--no-{words}"
    return f"--{words}" if default is None else f"--{words} {default:g}"
