"""Curves in files: each with its name at its end, or in a legend below, never over the data.

Lengths are in inches, from the lower left corner of the figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fedcli.reporting.diagrams import Curves, DrawnLine, drawable
from fedcli.reporting.plot_style import (
    LINE,
    TEXT,
    TITLE,
    chance_style,
    fitted,
    line_style,
    new_axes,
    new_figure,
    text_width,
)
from fedcli.reporting.svg import Axis, linear_axis, log_axis, tick_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BESIDE = 16  # names at the ends of curves; more stand below
_WIDEST = 0.4  # share of the figure that these names may take
_EDGE = 0.04
_TOP = 0.09
_BELOW = 0.4  # for numbers and name of the x axis
_LEADER, _SAMPLE = 0.14, 0.3  # from a curve to its name, and the piece of line before the name
_GAP = 0.06
_MARKS = 8  # on a curve of many points
_TURNS = 3  # curves that have their markers at different points, of few
_REACHES = 0.98  # share of the width, from which a curve ends at the right edge


@dataclass(frozen=True)
class Entry:
    """A name with the style of its curve; ``end`` is where the curve ends, if it is drawn."""

    text: str
    style: dict[str, Any]
    end: tuple[float, float] | None


@dataclass(frozen=True)
class Frame:
    """Where the axes are, with the numbers at their ticks."""

    x: Axis
    x_ticks: Sequence[float]
    y: Axis
    y_ticks: Sequence[float]


def plot_curves(curves: Curves, width: float) -> Figure:
    """Draw curves with their bands. It is to be called within ``drawing``."""
    drawn = [_marked(drawable(line, log=curves.log_y), curves) for line in curves.lines]
    chance = drawable(curves.chance, log=curves.log_y) if curves.chance else None
    names = [line.label for line in (*drawn, *([chance] if chance else []))]
    high, room = _height(width), _room_beside(names)
    beside = len(names) <= min(_MOST_BESIDE, int(high / LINE)) and room <= _WIDEST * width
    rows, columns = (0, 1) if beside else _grid(names, width)
    bottom = _BELOW + (rows * LINE + _EDGE if rows else 0)
    right = width - (room if beside else 2 * _GAP)
    frame = _frame(curves, drawn, chance, (right, bottom, bottom + high))
    figure = new_figure(width, bottom + high + _TOP)
    axes = _axes(figure, frame, curves)
    _draw(axes, drawn, chance, clipped=curves.ceiling < math.inf)
    entries = _entries(frame, drawn, chance)
    if beside:
        _name_beside(figure, frame, entries)
    else:
        _name_below(figure, entries, columns, rows)
    return figure


def _marked(line: DrawnLine, curves: Curves) -> DrawnLine:
    """Mark the name of a curve that leaves the axes at their top."""
    leaves = max(line.y, default=0.0) > curves.ceiling
    return replace(line, label=f"{line.label} ↑") if leaves else line


def _height(width: float) -> float:
    return 2.0 if width < 5 else 2.9


def _room_beside(names: Sequence[str]) -> float:
    return _LEADER + _SAMPLE + _GAP + max(map(text_width, names), default=0.0) + _EDGE


def _grid(names: Sequence[str], width: float) -> tuple[int, int]:
    """Return rows and columns of a legend whose columns hold the widest name."""
    widest = max(map(text_width, names), default=0.0) + _SAMPLE + 2 * _GAP
    columns = max(1, min(len(names), int((width - 2 * _EDGE) / widest)))
    return -(-len(names) // columns), columns


def _frame(
    curves: Curves,
    drawn: Sequence[DrawnLine],
    chance: DrawnLine | None,
    edges: tuple[float, float, float],
) -> Frame:
    right, bottom, top = edges
    heights = [v for line in (*drawn, *([chance] if chance else [])) for v in line.heights]
    heights = [min(height, curves.ceiling) for height in heights]
    if curves.log_y and heights:
        y, y_ticks = log_axis(heights, bottom, top)
    else:
        y, y_ticks = linear_axis(heights, bottom, top, limits=curves.limits)
    widest = max(text_width(tick_text(tick)) for tick in y_ticks)
    left = _EDGE + TITLE / 72 * 1.3 + widest + 0.1
    widths = [v for line in drawn if not line.level for v in line.x]
    x, x_ticks = linear_axis(widths, left, right, whole=curves.whole_x)
    if widths and x.low <= max(widths) < x.high and max(widths) > min(widths):
        x = Axis(x.low, max(widths), left, right)
    return Frame(x, _with_room(x, x_ticks), y, y_ticks)


def _with_room(axis: Axis, ticks: Sequence[float]) -> list[float]:
    """Return as many ticks as there is room for their numbers."""
    ticks = [tick for tick in ticks if axis.low <= tick <= axis.high]
    if len(ticks) < 2:
        return ticks
    widest = max(text_width(tick_text(tick)) for tick in ticks) + _GAP
    return ticks[:: max(1, math.ceil(widest / (axis.place(ticks[1]) - axis.place(ticks[0]))))]


def _axes(figure: Figure, frame: Frame, curves: Curves) -> Axes:
    x, y = frame.x, frame.y
    axes = new_axes(figure, x.start, y.start, x.end - x.start, y.end - y.start)
    axes.set_yscale("log" if y.log else "linear")
    for axis, ticks in ((axes.xaxis, frame.x_ticks), (axes.yaxis, frame.y_ticks)):
        axis.set_ticks([], minor=True)
        axis.set_ticks(list(ticks), [tick_text(tick) for tick in ticks])
    margin = 0.015 * (x.high - x.low)
    axes.set_xlim(x.low - margin, x.high + margin)
    axes.set_ylim(y.low, y.high)
    axes.grid(True)
    wide, high = figure.get_size_inches()
    middle = (x.start + x.end) / 2
    figure.text(middle / wide, (y.start - 0.35) / high, curves.x, size=TITLE, ha="center")
    axes.set_ylabel(fitted(curves.y, y.end - y.start, TITLE))
    axes.yaxis.set_label_coords((_EDGE + TITLE / 72 - x.start) / (x.end - x.start), 0.5)
    return axes


def _draw(
    axes: Axes, drawn: Sequence[DrawnLine], chance: DrawnLine | None, *, clipped: bool
) -> None:
    """Draw all; without ``clipped``, markers may stand over the edges of the axes."""
    if chance and chance.level:
        axes.axhline(chance.y[-1], **chance_style())
    elif chance:
        axes.plot(chance.x, chance.y, **chance_style())
    for index, line in enumerate(drawn):
        _band(axes, index, line, max(0.05, min(0.2, 1.2 / len(drawn))))
    for index, line in enumerate(drawn):
        if line.level and line.y:
            axes.axhline(line.y[-1], **_style(index, line))
        elif line.y:
            style, marks = line_style(index), _marks(index, len(line.x), len(drawn))
            axes.plot(line.x, line.y, **{**style, "marker": ""}, clip_on=clipped)
            points = {**style, "linestyle": "", "markevery": marks, "zorder": 3}
            axes.plot(line.x, line.y, **points, clip_on=clipped)


def _marks(index: int, points: int, curves: int) -> tuple[int, int]:
    """Return the first marker of a curve and how many points lie between its markers.

    Markers of neighbours are at different points and above all lines: so two curves are seen where
    one hides the other.
    """
    step = max(min(curves, _TURNS), points // _MARKS)
    return index % min(step, points), step


def _style(index: int, line: DrawnLine) -> dict[str, Any]:
    """Return the style of a curve; a level has no points to mark."""
    return {**line_style(index), "marker": ""} if line.level else line_style(index)


def _band(axes: Axes, index: int, line: DrawnLine, alpha: float) -> None:
    colour = line_style(index)["color"]
    low, high = ([math.nan if v is None else v for v in side] for side in (line.lower, line.upper))
    if sum(not math.isnan(v) for v in low) > 1:
        axes.fill_between(line.x, low, high, color=colour, alpha=alpha, linewidth=0)


def _entries(frame: Frame, drawn: Sequence[DrawnLine], chance: DrawnLine | None) -> list[Entry]:
    entries = [
        Entry(line.label, _style(i, line), _end(frame, line)) for i, line in enumerate(drawn)
    ]
    if chance:
        entries.append(Entry(chance.label, chance_style(), _end(frame, chance)))
    return entries


def _end(frame: Frame, line: DrawnLine) -> tuple[float, float] | None:
    if not line.y:
        return None
    x = frame.x.end if line.level else frame.x.place(line.x[-1])
    return x, frame.y.place(line.y[-1])


def _name_beside(figure: Figure, frame: Frame, entries: Sequence[Entry]) -> None:
    """Name curves where they end, as near to it as the other names allow."""
    bottom, top = frame.y.start + LINE / 2, frame.y.end - LINE / 2
    ends = [bottom if entry.end is None else entry.end[1] for entry in entries]
    apart = len(ends) < 2 or max(ends) - min(ends) > LINE
    wanted = ends if apart else [top - LINE * i for i in range(len(ends))]
    for entry, y in zip(entries, spread(wanted, LINE, bottom, top), strict=True):
        at_edge = entry.end is not None and _reaches(frame, entry.end[0])
        if entry.end and at_edge and apart:
            style = {**entry.style, "linewidth": 0.5, "marker": "", "linestyle": "-"}
            x = frame.x.end
            _stroke(figure, (x + 0.04, x + _LEADER - 0.02), (entry.end[1], y), style)
        _entry(figure, entry, frame.x.end + _LEADER, y)


def _reaches(frame: Frame, x: float) -> bool:
    return x - frame.x.start >= _REACHES * (frame.x.end - frame.x.start)


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Return the places nearest to the wanted ones, in their order, that are ``apart``.

    It minimises the squares of the shifts by pooling neighbours (isotonic regression).
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], -i))
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([wanted[i] - apart * rank])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    shifted = [_mean(pool) for pool in pools for _ in pool]
    places = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        within = min(max(shifted[rank], low), high - apart * (len(order) - 1))
        places[i] = within + apart * rank
    return places


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _name_below(figure: Figure, entries: Sequence[Entry], columns: int, rows: int) -> None:
    """Name curves in columns below the x axis."""
    wide = (figure.get_size_inches()[0] - 2 * _EDGE) / columns
    for index, entry in enumerate(entries):
        x, y = _EDGE + wide * (index // rows), LINE * (rows - index % rows - 0.5) + _EDGE
        text = fitted(entry.text, wide - _SAMPLE - 2 * _GAP)
        _entry(figure, Entry(text, entry.style, None), x, y)


def _entry(figure: Figure, entry: Entry, x: float, y: float) -> None:
    _stroke(figure, (x, x + _SAMPLE / 2, x + _SAMPLE), (y, y, y), entry.style)
    wide, high = figure.get_size_inches()
    figure.text((x + _SAMPLE + _GAP) / wide, y / high, entry.text, size=TEXT, va="center_baseline")


def _stroke(figure: Figure, x: Sequence[float], y: Sequence[float], style: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    line = Line2D(x, y, transform=figure.dpi_scale_trans, markevery=[1], **style)
    figure.add_artist(line)
