"""What all charts of the page share: their size, outlines, and the names of columns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcli.reporting.diagrams import can_be_drawn
from fedcli.reporting.svg import LINE, number, shortened, text, text_width

WIDTH = 420.0
TOP, RIGHT = 22.0, 10.0
ROW = 13.0  # of a heat map, for a name beside it


@dataclass(frozen=True)
class Chart:
    """An SVG drawing without its root, its height, and what a script shows of it."""

    drawing: str
    height: float
    data: Mapping[str, Any]


def known_values(values: Sequence[float | None]) -> list[float]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


def rounded(value: float) -> float:
    """Round to the four digits that a chart shows."""
    return float(f"{value:.4g}")


def shown_value(value: float | None) -> float | None:
    """Return a value as a chart shows it; None if it cannot be drawn."""
    return None if value is None or not can_be_drawn(value) else rounded(value)


def move(*places: float) -> str:
    """Return the outline through points, given as x, y, x, y, …"""
    pairs = list(zip(places[::2], places[1::2], strict=True))
    return "M" + "L".join(f"{number(a)} {number(b)}" for a, b in pairs)


def column_names(
    names: Sequence[str], left: float, wide: float, bottom: float
) -> tuple[str, float]:
    """Name the columns below, upright if they have no room; return where the names end."""
    widest = max(map(text_width, names), default=0.0)
    if widest + 3 <= wide:
        flat = "".join(
            text(name, left + wide * (i + 0.5), bottom + LINE - 2, text_anchor="middle")
            for i, name in enumerate(names)
        )
        return flat, bottom + LINE
    every, parts = max(1, math.ceil(ROW / wide)), []
    for i, name in enumerate(names):
        if i % every == 0:
            x, y = left + wide * (i + 0.5) + 4, bottom + 5
            turn = f"rotate(-90 {number(x)} {number(y)})"
            content = shortened(name, 110.0)
            parts.append(text(content, x, y, text_anchor="end", transform=turn))
    return "".join(parts), bottom + 8 + min(110.0, widest)
