"""Curves of the page, with their bands, markers and legend."""

import math
from collections.abc import Sequence
from typing import Any

from fedcli.reporting.chart_parts import RIGHT, TOP, WIDTH, Chart, known_values, move, rounded
from fedcli.reporting.diagrams import Curves, DrawnLine, drawable
from fedcli.reporting.svg import (
    FONT,
    LINE,
    Axis,
    element,
    linear_axis,
    log_axis,
    number,
    shortened,
    text,
    text_width,
    tick_text,
)

COLOURS = 6
_DASHES = 4
_TALL = 190.0  # of the area with the curves
_MARKED = 26  # points, up to which each has a marker
_SWATCH = 26.0
_LEFT = 8.0


def line_chart(curves: Curves) -> Chart:
    """Draw curves with their bands, and dotted what a model scores that sees nothing.

    A line that is a level, such as that of a centralised run, is drawn over the whole width.
    """
    chance, log_y = curves.chance, curves.log_y
    drawn = [drawable(line, log=log_y) for line in curves.lines]
    heights = [v for line in drawn for v in line.heights]
    heights += known_values(chance.y) if chance else []
    widths = [v for line in drawn if not line.level for v in line.x]
    bottom = TOP + _TALL
    if log_y and heights:
        y_axis, y_ticks = log_axis(heights, bottom, TOP)
    else:
        y_axis, y_ticks = linear_axis(heights, bottom, TOP, limits=curves.limits)
    left = _LEFT + max(text_width(tick_text(tick)) for tick in y_ticks)
    x_axis, x_ticks = linear_axis(widths, left, WIDTH - RIGHT - 8, whole=curves.whole_x)
    parts = [*_frame(x_axis, x_ticks, y_axis, y_ticks, curves.x, curves.y)]
    if chance:
        parts.append(_chance(drawable(chance, log=log_y), x_axis, y_axis))
    parts += [_curve(line, i, x_axis, y_axis) for i, line in enumerate(drawn)]
    names = [*(line.label for line in drawn), *([chance.label] if chance else [])]
    legend, height = _legend(names, bottom + 2 * LINE + 20, chance=chance is not None)
    data = {
        "kind": "lines",
        "x": [x_axis.low, x_axis.high, left, x_axis.end],
        "axes": [curves.x, curves.y],
        "series": [_series(line) for line in drawn],
    }
    return Chart("".join(parts) + legend, height, data)


def _series(line: DrawnLine) -> dict[str, Any]:
    series: dict[str, Any] = {"name": line.label, "x": line.x, "y": [*map(rounded, line.y)]}
    if any(value is not None for value in line.lower):
        series["low"] = [None if v is None else rounded(v) for v in line.lower]
        series["high"] = [None if v is None else rounded(v) for v in line.upper]
    return {**series, "level": True} if line.level else series


def _frame(
    x_axis: Axis, x_ticks: Sequence[float], y_axis: Axis, y_ticks: Sequence[float], x: str, y: str
) -> list[str]:
    """Draw grid, ticks and names of the axes; ticks without room for their number have none."""
    parts = [text(y, 0, FONT, kind="axis")]
    for tick in y_ticks:
        place = y_axis.place(tick)
        parts.append(element("path", kind="grid", d=move(x_axis.start, place, x_axis.end, place)))
        parts.append(text(tick_text(tick), x_axis.start - 5, place + 4, text_anchor="end"))
    widest = max((text_width(tick_text(tick)) for tick in x_ticks), default=0.0) + 6
    apart = abs(x_axis.place(x_ticks[1]) - x_axis.place(x_ticks[0])) if len(x_ticks) > 1 else WIDTH
    for tick in x_ticks[:: max(1, math.ceil(widest / apart))]:
        parts.append(
            text(tick_text(tick), x_axis.place(tick), y_axis.start + LINE, text_anchor="middle")
        )
    middle = (x_axis.start + x_axis.end) / 2
    named = text(x, middle, y_axis.start + 2 * LINE, text_anchor="middle", kind="axis")
    return [*parts, named]


def _across(y: float, left: float, kind: str) -> str:
    return element("path", kind=kind, d=move(left, y, WIDTH - RIGHT, y))


def _chance(line: DrawnLine, x_axis: Axis, y_axis: Axis) -> str:
    if line.level:
        return _across(y_axis.place(line.y[-1]), x_axis.start, "chance")
    points = zip(map(x_axis.place, line.x), map(y_axis.place, line.y), strict=True)
    return element("path", kind="chance", d=move(*(place for point in points for place in point)))


def _style(index: int) -> str:
    return f"line s{index % COLOURS + 1} d{index // COLOURS % _DASHES}"


def _curve(line: DrawnLine, index: int, x_axis: Axis, y_axis: Axis) -> str:
    """Draw one line with its band and markers, as a group that the script can bring forward."""
    if not line.y:
        return ""
    if line.level:
        return _group(index, _across(y_axis.place(line.y[-1]), x_axis.start, _style(index)))
    points = [(x_axis.place(a), y_axis.place(b)) for a, b in zip(line.x, line.y, strict=True)]
    parts = [_band(line, index, x_axis, y_axis)]
    if len(points) > 1:
        flat = [place for point in points for place in point]
        parts.append(element("path", kind=_style(index), d=move(*flat)))
    if len(points) <= _MARKED:
        marks = "".join(_mark(index, *point) for point in points)
        parts.append(element("path", kind=f"mark s{index % COLOURS + 1}", d=marks))
    return _group(index, "".join(parts))


def _group(index: int, content: str) -> str:
    return element("g", content, kind="curve", data_series=index)


def _band(line: DrawnLine, index: int, x_axis: Axis, y_axis: Axis) -> str:
    known = [
        (x_axis.place(a), y_axis.place(low), y_axis.place(high))
        for a, low, high in zip(line.x, line.lower, line.upper, strict=True)
        if low is not None and high is not None
    ]
    if len(known) < 2:
        return ""
    there = [place for a, low, _ in known for place in (a, low)]
    back = [place for a, _, high in reversed(known) for place in (a, high)]
    return element("path", kind=f"band s{index % COLOURS + 1}", d=f"{move(*there, *back)}Z")


def _mark(index: int, x: float, y: float) -> str:
    """Return the outline of a circle, square, diamond or triangle at a point."""
    shapes = (
        "m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0",
        "m-2.5-2.5h5v5h-5z",
        "m0-3.4l3.4 3.4l-3.4 3.4l-3.4-3.4z",
        "m0-3.2l3 5.4h-6z",
    )
    return f"M{number(x)} {number(y)}{shapes[(index + index // (COLOURS * _DASHES)) % len(shapes)]}"


def _legend(names: Sequence[str], top: float, *, chance: bool) -> tuple[str, float]:
    """Draw a legend in as many columns as its names fit into; return it, and where it ends."""
    widest = max(map(text_width, names), default=0.0) + _SWATCH + 10
    least = 2 if len(names) > 12 else 1
    columns = max(least, min(4, len(names), int(WIDTH // widest)))
    rows, wide = -(-len(names) // columns), WIDTH / columns
    parts = []
    for index, name in enumerate(names):
        place = (wide * (index // rows), top + LINE * (index % rows))
        is_chance = chance and index == len(names) - 1
        content = _entry(index, name, *place, wide - _SWATCH - 8, chance=is_chance)
        parts.append(element("g", content, kind="entry", data_series=-1 if is_chance else index))
    return "".join(parts), top + LINE * (rows - 1) + 6


def _entry(index: int, name: str, x: float, y: float, wide: float, *, chance: bool) -> str:
    line = "chance" if chance else _style(index)
    parts = [element("path", kind=line, d=move(x, y - 4, x + _SWATCH - 6, y - 4))]
    if not chance:
        mark = _mark(index, x + (_SWATCH - 6) / 2, y - 4)
        parts.append(element("path", kind=f"mark s{index % COLOURS + 1}", d=mark))
    return "".join(parts) + text(shortened(name, wide), x + _SWATCH, y)
