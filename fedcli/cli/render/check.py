"""What ``fedcli check`` shows of its result."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.cli.render.tables import figures_table
from fedcli.datasets.folder_tree import summarized
from fedcli.errors import DataError
from fedcli.steps.check import CheckResult, Span
from fedcli.text import printable

_MOST_CLASSES = 60
_MOST_GROUPS = 10


def render(result: CheckResult) -> list[RenderableType]:
    """Describe how data was read, what is in it, and what is likely wrong."""
    heading = "training can use it" if result.usable else "training would refuse it"
    lines: list[str] = [
        *result.understood,
        *(_groups(result.groups) if result.groups else []),
        *summarized(result.left_out),
    ]
    bad = [f"{one.path}: {one.reason}" for one in result.bad]
    return [
        f"{printable(result.data)}: {heading}",
        *map(printable, lines),
        "",
        _classes(result),
        *([f"and {len(result.classes) - _MOST_CLASSES} more classes"] if _hides(result) else []),
        "",
        *_examples(result),
        *_listed(f"cannot be decoded ({len(bad)}):", bad),
        *_listed("likely wrong:", result.likely_wrong),
        "",
        f"next: {printable(result.next)}",
    ]


def failure(result: CheckResult) -> dict[str, Any]:
    """Return the error of data that training would refuse, as ``--json`` prints it."""
    total = len(result.bad) + sum(map(sum, result.counts.values()))
    what = f"{len(result.bad)} of {total} examples cannot be decoded"
    message = f"{result.data}: {what if result.bad else 'has no examples'}"
    return {"kind": DataError.kind, "message": message, "hint": result.next}


def _groups(names: Sequence[str]) -> list[str]:
    more = f", … {len(names) - _MOST_GROUPS} more" if len(names) > _MOST_GROUPS else ""
    return [f"{len(names)} groups: {', '.join(names[:_MOST_GROUPS])}{more}"]


def _hides(result: CheckResult) -> bool:
    return len(result.classes) > _MOST_CLASSES


def _classes(result: CheckResult) -> Table:
    table = figures_table(["label", "class"], list(result.counts))
    for label, name in enumerate(result.classes[:_MOST_CLASSES]):
        counts = [str(part[label]) for part in result.counts.values()]
        table.add_row(str(label), Text(printable(name)), *counts)
    totals = [str(sum(part)) for part in result.counts.values()]
    table.add_row("", "all", *totals)
    return table


def _examples(result: CheckResult) -> list[str]:
    """Describe sizes, channels, bits and values of the examples as they are stored."""
    if result.values is None:
        return []
    sizes = [
        f"{name} {_span(span)}"
        for name, span in (("width", result.width), ("height", result.height))
        if span is not None
    ]
    return [
        f"stored: {'; '.join([*sizes, _counted(result.modes)])}",
        f"bits: {_counted(result.bits)}; values from {result.values[0]:g} to {result.values[1]:g}",
        f"in training: {'×'.join(map(str, result.shape))}",
    ]


def _span(span: Span) -> str:
    if span.least == span.greatest:
        return f"{span.least:g}"
    return f"{span.least:g} to {span.greatest:g}, median {span.median:g}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _listed(heading: str, lines: Sequence[str]) -> list[str]:
    return ["", heading, *(f"- {printable(line)}" for line in lines)] if lines else []
