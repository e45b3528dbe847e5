"""``fedcli partition --list``: every scheme, with its options and where it comes from."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from fedcli.partitioning import PARTITIONERS

Schemes = dict[str, dict[str, dict[str, Any]]]


def schemes() -> Schemes:
    """Return all schemes by name; options with their defaults."""
    keys = ("summary", "source", "options")
    return {
        "schemes": {
            name: {key: getattr(row, key) for key in keys} for name, row in PARTITIONERS.items()
        }
    }


def render_schemes(listed: Schemes) -> list[RenderableType]:
    """Draw one table, in 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("--scheme", no_wrap=True, width=15)
    table.add_column("what it is", width=38)
    table.add_column("source", width=23)
    for name, row in listed["schemes"].items():
        table.add_row(name, f"{row['summary']}\n{_options(row['options'])}".strip(), row["source"])
    return [
        table,
        "",
        "--clients 3 for all but labels, --sizes and natural, which say it themselves",
    ]


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(_option(name, value) for name, value in options.items())


def _option(name: str, default: Any) -> str:
    words = f"--{name.replace('_', '-')}"
    return words if default in (False, ()) else f"{words} {default}"
