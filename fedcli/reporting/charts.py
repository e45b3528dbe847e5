"""Charts of the page: SVG with the values that a script shows where the reader points.

They are written here rather than by a charting library: a page with Vega-Lite would be 0.9 MB
larger, take 2 s longer to write, need a package of 88 MB, and show nothing where scripts are
blocked. No text overlaps: legends stand below the data, in columns that their names fit into.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fedcli.reporting.diagrams import (
    Bars,
    Curves,
    Diagram,
    DrawnLine,
    HeatMap,
    Histograms,
    can_be_drawn,
    drawable,
    histogram,
)
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

WIDTH = 420.0
COLOURS = 6
_DASHES = 4
_TALL = 190.0  # of the area with the curves
_TOP, _RIGHT = 22.0, 10.0
_MARKED = 26  # points, up to which each has a marker
_SWATCH = 26.0
_ROW = 13.0  # of a heat map, for a name beside it
_ROOMY = 24  # rows, up to which each has room for its name
_SHADES = 10
_BINS = 24
_LEFT = 8.0


@dataclass(frozen=True)
class Chart:
    """An SVG drawing without its root, its height, and what a script shows of it."""

    drawing: str
    height: float
    data: Mapping[str, Any]


def chart_of(diagram: Diagram) -> Chart:
    """Draw what a figure shows."""
    if isinstance(diagram, Curves):
        return _line_chart(diagram)
    if isinstance(diagram, HeatMap):
        return _heat_map(diagram)
    if isinstance(diagram, Bars):
        return _bar_chart(diagram)
    return _distribution_chart(diagram)


def _line_chart(curves: Curves) -> Chart:
    """Draw curves with their bands, and dotted what a model scores that sees nothing.

    A line that is a level, such as that of a centralised run, is drawn over the whole width.
    """
    chance, log_y = curves.chance, curves.log_y
    drawn = [drawable(line, log=log_y) for line in curves.lines]
    heights = [v for line in drawn for v in line.heights]
    heights += _known(chance.y) if chance else []
    widths = [v for line in drawn if not line.level for v in line.x]
    bottom = _TOP + _TALL
    if log_y and heights:
        y_axis, y_ticks = log_axis(heights, bottom, _TOP)
    else:
        y_axis, y_ticks = linear_axis(heights, bottom, _TOP, limits=curves.limits)
    left = _LEFT + max(text_width(tick_text(tick)) for tick in y_ticks)
    x_axis, x_ticks = linear_axis(widths, left, WIDTH - _RIGHT - 8, whole=curves.whole_x)
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


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _series(line: DrawnLine) -> dict[str, Any]:
    series: dict[str, Any] = {"name": line.label, "x": line.x, "y": [*map(_short, line.y)]}
    if any(value is not None for value in line.lower):
        series["low"] = [None if v is None else _short(v) for v in line.lower]
        series["high"] = [None if v is None else _short(v) for v in line.upper]
    return {**series, "level": True} if line.level else series


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _shown(value: float | None) -> float | None:
    return None if value is None or not can_be_drawn(value) else _short(value)


def _frame(
    x_axis: Axis, x_ticks: Sequence[float], y_axis: Axis, y_ticks: Sequence[float], x: str, y: str
) -> list[str]:
    """Draw grid, ticks and names of the axes; ticks without room for their number have none."""
    parts = [text(y, 0, FONT, kind="axis")]
    for tick in y_ticks:
        place = y_axis.place(tick)
        parts.append(element("path", kind="grid", d=_move(x_axis.start, place, x_axis.end, place)))
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


def _move(*places: float) -> str:
    pairs = list(zip(places[::2], places[1::2], strict=True))
    return "M" + "L".join(f"{number(a)} {number(b)}" for a, b in pairs)


def _across(y: float, left: float, kind: str) -> str:
    return element("path", kind=kind, d=_move(left, y, WIDTH - _RIGHT, y))


def _chance(line: DrawnLine, x_axis: Axis, y_axis: Axis) -> str:
    if line.level:
        return _across(y_axis.place(line.y[-1]), x_axis.start, "chance")
    points = zip(map(x_axis.place, line.x), map(y_axis.place, line.y), strict=True)
    return element("path", kind="chance", d=_move(*(place for point in points for place in point)))


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
        parts.append(element("path", kind=_style(index), d=_move(*flat)))
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
    return element("path", kind=f"band s{index % COLOURS + 1}", d=f"{_move(*there, *back)}Z")


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
    parts = [element("path", kind=line, d=_move(x, y - 4, x + _SWATCH - 6, y - 4))]
    if not chance:
        mark = _mark(index, x + (_SWATCH - 6) / 2, y - 4)
        parts.append(element("path", kind=f"mark s{index % COLOURS + 1}", d=mark))
    return "".join(parts) + text(shortened(name, wide), x + _SWATCH, y)


def _heat_map(shown: HeatMap) -> Chart:
    values, rows, columns, y, x = shown.values, shown.rows, shown.columns, shown.y, shown.x
    by_row = shown.by_row
    left = 6 + min(110.0, max(map(text_width, rows), default=0.0))
    comfortable = max(44.0, 8 + max(map(text_width, columns), default=0.0))
    wide = min(comfortable, (WIDTH - _RIGHT - left) / max(1, len(columns)))
    high = min(22.0, max(_ROW + 3, wide)) if len(rows) <= _ROOMY else max(3.0, 340 / len(rows))
    bottom = _TOP + high * len(rows)
    cells = _cells(values, (left, _TOP), (wide, high), by_row=by_row)
    names, below = _column_names(columns, left, wide, bottom)
    every = max(1, math.ceil(_ROW / high))
    beside = "".join(
        text(shortened(name, left - 6), left - 6, _TOP + high * (i + 0.5) + 4, text_anchor="end")
        for i, name in enumerate(rows)
        if i % every == 0
    )
    middle = left + wide * len(columns) / 2
    middle = max(middle, text_width(x) / 2)
    titles = text(y, 0, FONT, kind="axis")
    titles += text(x, middle, below + LINE, text_anchor="middle", kind="axis")
    data = {
        "kind": "cells",
        "box": [left, _TOP, wide, high],
        "axes": [x, y],
        "rows": list(rows),
        "columns": list(columns),
        "values": [list(row) for row in values],
        "shares": by_row,
    }
    return Chart(cells + beside + names + titles, below + LINE + 6, data)


def _cells(
    values: Sequence[Sequence[int]],
    corner: tuple[float, float],
    size: tuple[float, float],
    *,
    by_row: bool,
) -> str:
    """Draw a rectangle for each value above 0, one path per shade, and its number if it fits."""
    shades: dict[int, list[str]] = {}
    numbers = []
    largest = max((v for row in values for v in row), default=0)
    fits = size[1] >= _ROW and text_width(str(largest)) + 2 <= size[0]
    for i, row in enumerate(values):
        scale = sum(row) if by_row else largest
        for j, value in enumerate(row):
            if value <= 0:
                continue
            shade = math.ceil(_SHADES * value / scale)
            x, y = corner[0] + j * size[0], corner[1] + i * size[1]
            width, height = (number(max(1.0, side - 1)) for side in size)
            shades.setdefault(shade, []).append(
                f"M{number(x)} {number(y)}h{width}v{height}h-{width}z"
            )
            if fits:
                kind = "on-dark" if shade > 6 else "in-cell"
                place = (x + (size[0] - 1) / 2, y + size[1] / 2 + 3.5)
                numbers.append(text(str(value), *place, text_anchor="middle", kind=kind))
    paths = [
        element("path", kind=f"cell h{shade}", d="".join(outlines))
        for shade, outlines in sorted(shades.items())
    ]
    return "".join([*paths, *numbers])


def _column_names(
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
    every, parts = max(1, math.ceil(_ROW / wide)), []
    for i, name in enumerate(names):
        if i % every == 0:
            x, y = left + wide * (i + 0.5) + 4, bottom + 5
            turn = f"rotate(-90 {number(x)} {number(y)})"
            content = shortened(name, 110.0)
            parts.append(text(content, x, y, text_anchor="end", transform=turn))
    return "".join(parts), bottom + 8 + min(110.0, widest)


def _bar_chart(shown: Bars) -> Chart:
    clients = shown.clients
    wide = (WIDTH - _RIGHT - 44) / len(clients)
    parts, data, top = [], [], LINE
    for title, values in shown.panels.items():
        known = [value for value in _known(values) if can_be_drawn(value) and value >= 0]
        axis = Axis(0, max(known, default=0) or 1, top + 62.0, top + 6.0)
        parts.append(_panel(title, axis, top, tick_text(_short(axis.high)) if known else ""))
        bars = "".join(
            _bar(44 + wide * i, wide, axis, value)
            for i, value in enumerate(values)
            if value is not None and can_be_drawn(value) and value > 0
        )
        parts.append(element("path", kind="bar", d=bars) if bars else "")
        data.append(_panel_data(title, top, [*map(_shown, values)]))
        top += 62 + 2 * LINE
    names, below = _column_names(clients, 44, wide, top - 2 * LINE + 2)
    parts += [names, text("client", 44, below + LINE, kind="axis")]
    box = [44, wide]
    return Chart(
        "".join(parts),
        below + LINE + 6,
        {"kind": "bars", "box": box, "names": list(clients), "noun": "client", "panels": data},
    )


def _panel(title: str, axis: Axis, top: float, largest: str) -> str:
    base = element("path", kind="base", d=_move(44, axis.start, WIDTH - _RIGHT, axis.start))
    ticks = text(largest, 40, axis.end + 8, text_anchor="end") if largest else ""
    zero = text("0", 40, axis.start + 3, text_anchor="end")
    return text(title, 0, top, kind="axis") + base + ticks + zero


def _panel_data(title: str, top: float, values: Sequence[float | None]) -> dict[str, Any]:
    return {"title": title, "top": top, "bottom": top + 66, "values": list(values)}


def _bar(x: float, wide: float, axis: Axis, value: float) -> str:
    top = axis.place(value)
    gap = min(6.0, wide * 0.15)
    side = number(wide - 2 * gap)
    return f"M{number(x + gap)} {number(axis.start)}V{number(top)}h{side}V{number(axis.start)}z"


def _distribution_chart(shown: Histograms) -> Chart:
    wide = (WIDTH - _RIGHT - 44) / _BINS
    parts, data, top = [], [], LINE
    for title, values in shown.panels.items():
        known = [value for value in _known(values) if can_be_drawn(value)]
        if not known:
            continue
        edges, counts = histogram(known, _BINS)
        axis = Axis(0, max(counts), top + 62.0, top + 6.0)
        parts.append(_panel(title, axis, top, str(max(counts))))
        bars = "".join(_bar(44 + wide * i, wide, axis, n) for i, n in enumerate(counts) if n)
        parts.append(element("path", kind="bar", d=bars))
        for i, anchor in ((0, "start"), (_BINS // 2, "middle"), (_BINS, "end")):
            place = (44 + wide * i, axis.start + LINE - 1)
            parts.append(text(tick_text(_short(edges[i])), *place, text_anchor=anchor))
        between = [f"{tick_text(_short(a))} to {tick_text(_short(b))}" for a, b in pairwise(edges)]
        data.append({**_panel_data(title, top, counts), "names": between})
        top += 62 + 3 * LINE
    labels = {"kind": "bars", "box": [44, wide], "names": [], "noun": "", "of": shown.noun}
    return Chart("".join(parts), top - LINE, {**labels, "panels": data})
