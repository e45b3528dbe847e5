"""Heat maps, bars and histograms in files. Lengths are in inches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcli.reporting.diagrams import Bars, HeatMap, Histograms, can_be_drawn, histogram
from fedcli.reporting.plot_style import (
    INK,
    LINE,
    PAPER,
    SERIES,
    TEXT,
    TITLE,
    fitted,
    new_axes,
    new_figure,
    text_width,
)
from fedcli.reporting.svg import linear_axis, tick_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE, _GAP = 0.05, 0.06
_NAME = 0.16  # the height of the name of an axis
_LONGEST = 1.1  # of a name beside or below a heat map
_CELL = 0.9  # the widest
_ROW, _ROWS = 0.2, 4.6  # the height of a row, and of all rows at most
_NUMBER = 6.0  # points
_MESH = 4000  # cells, above which a map is one picture
_PANEL, _APART = 0.62, 0.34  # the height of a panel, and the space to the next
_BINS = 24
_MANY = 5  # panels


def plot_heat_map(shown: HeatMap, width: float) -> Figure:
    """Draw a cell for each value above 0, with its number if it fits, within ``drawing``."""
    beside = min(_LONGEST, max(map(text_width, shown.rows), default=0.0))
    left = _EDGE + _NAME + _GAP + beside
    count = (max(1, len(shown.rows)), max(1, len(shown.columns)))
    cell = min(_CELL, (width - left - _EDGE) / count[1])
    high = min(_ROW if not shown.by_row else max(0.1, min(cell, _ROW)), _ROWS / count[0])
    below = _names_height(shown.columns, cell) + _GAP
    figure = new_figure(width, _EDGE + high * count[0] + below + _NAME + _EDGE)
    start = left + (width - left - _EDGE - cell * count[1]) / 2
    bottom = below + _NAME + _EDGE
    axes = new_axes(figure, start, bottom, cell * count[1], high * count[0])
    axes.set(xlim=(-0.5, count[1] - 0.5), ylim=(count[0] - 0.5, -0.5))
    _draw_cells(axes, shown, (cell, high))
    _name_rows(axes, shown.rows, high, beside)
    _name_columns(axes, shown.columns, cell)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=0.03 * 72)
    middle = start + cell * count[1] / 2
    _name(figure, shown.x, middle, _EDGE, width - 2 * max(0.0, middle - width / 2))
    _name_upright(figure, shown.y, start - beside - _GAP - _NAME, bottom + high * count[0] / 2)
    return figure


def _name(figure: Figure, content: str, x: float, y: float, room: float) -> None:
    wide, high = figure.get_size_inches()
    figure.text(x / wide, y / high, fitted(content, room, TITLE), size=TITLE, ha="center")


def _name_upright(figure: Figure, content: str, x: float, y: float) -> None:
    """Name the axis of y, at the height of its middle as far as the figure has room."""
    wide, high = figure.get_size_inches()
    half = text_width(content, TITLE) / 2 + _EDGE
    y = max(half, min(high - half, y))
    figure.text(x / wide, y / high, content, rotation=90, ha="left", va="center", size=TITLE)


def _draw_cells(axes: Axes, shown: HeatMap, size: tuple[float, float]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shares = _shares(shown)
    cells = len(shown.rows) * len(shown.columns)
    if not cells:
        return
    colours = LinearSegmentedColormap.from_list("counts", ["#e9f1f7", SERIES[0]])
    axes.pcolormesh(
        [i - 0.5 for i in range(len(shown.columns) + 1)],
        [i - 0.5 for i in range(len(shown.rows) + 1)],
        shares,
        cmap=colours,
        vmin=0,
        vmax=1,
        edgecolors=PAPER if cells <= _MESH else "none",
        linewidth=0.5 if cells <= _MESH else 0,
        rasterized=cells > _MESH,
    )
    largest = str(max(value for row in shown.values for value in row))
    if size[1] >= LINE - 0.02 and text_width(largest, _NUMBER) + 0.03 <= size[0]:
        _draw_numbers(axes, shown, shares)


def _shares(shown: HeatMap) -> list[list[float]]:
    """Return values as shares of the largest, or of the sum of their row; NaN for 0."""
    largest = max((value for row in shown.values for value in row), default=0)
    wholes = [sum(row) if shown.by_row else largest for row in shown.values]
    return [
        [value / whole if value > 0 else math.nan for value in row]
        for row, whole in zip(shown.values, wholes, strict=True)
    ]


def _draw_numbers(axes: Axes, shown: HeatMap, shares: Sequence[Sequence[float]]) -> None:
    for y, row in enumerate(shown.values):
        for x, value in enumerate(row):
            if value > 0:
                colour = PAPER if shares[y][x] > 0.6 else INK
                number = axes.text(x, y, str(value), color=colour, size=_NUMBER)
                number.set(ha="center", va="center_baseline")


def _name_rows(axes: Axes, names: Sequence[str], high: float, room: float) -> None:
    """Name as many rows as there is room for."""
    places = range(0, len(names), max(1, math.ceil(LINE * 0.95 / high)))
    axes.set_yticks(list(places), [fitted(names[i], room) for i in places])


def _name_columns(axes: Axes, names: Sequence[str], pitch: float) -> None:
    """Name as many columns as there is room for, upright if far more of them fit so."""
    flat = _are_flat(names, pitch)
    places = range(0, len(names), _flat_step(names, pitch) if flat else _upright_step(pitch))
    shown = [fitted(names[i], _LONGEST) for i in places]
    axes.set_xticks(list(places), shown, rotation=0 if flat else 90)


def _are_flat(names: Sequence[str], pitch: float) -> bool:
    return _flat_step(names, pitch) <= 1.5 * _upright_step(pitch)


def _flat_step(names: Sequence[str], pitch: float) -> int:
    return max(1, math.ceil((max(map(text_width, names), default=0.0) + _GAP) / pitch))


def _upright_step(pitch: float) -> int:
    return max(1, math.ceil(LINE / pitch))


def _names_height(names: Sequence[str], pitch: float) -> float:
    if _are_flat(names, pitch):
        return LINE
    return min(_LONGEST, max(map(text_width, names), default=0.0)) + 0.03


@dataclass(frozen=True)
class Panel:
    """What one panel shows: the heights of its bars, None for no bar."""

    title: str
    heights: Sequence[float | None]


@dataclass(frozen=True)
class Grid:
    """Panels in columns: the size of the figure, and where the bars of each panel are.

    ``left`` is the room for numbers and names to the left of the bars, ``wide`` theirs.
    """

    width: float
    height: float
    places: list[tuple[float, float]]
    left: float
    wide: float


def plot_bars(shown: Bars, width: float) -> Figure:
    """Draw a bar for each client in a panel for each quantity, within ``drawing``."""
    panels = [Panel(title, _bars(values)) for title, values in shown.panels.items()]
    grid = _grid(panels, width, 0.0)
    below = _names_height(shown.clients, grid.wide / len(shown.clients)) + _NAME
    grid = _grid(panels, width, below)

    def name(axes: Axes, index: int) -> None:
        is_lowest = index == len(panels) - 1 or grid.places[index + 1][0] != grid.places[index][0]
        axes.set_xlim(-0.6, len(shown.clients) - 0.4)
        _name_columns(axes, shown.clients, grid.wide / len(shown.clients))
        axes.tick_params(axis="x", length=0, labelbottom=is_lowest)
        if is_lowest:
            x, y = grid.places[index]
            _name(axes.figure.get_figure(root=True), "client", x + grid.wide / 2, y - below, width)

    return _plot_panels(panels, grid, name)


def _bars(values: Sequence[float | None]) -> list[float | None]:
    return [v if v is not None and can_be_drawn(v) and v >= 0 else None for v in values]


def plot_histograms(shown: Histograms, width: float) -> Figure:
    """Draw how many have a value in each interval, in a panel for each quantity."""
    known = {
        title: [value for value in values if value is not None and can_be_drawn(value)]
        for title, values in shown.panels.items()
    }
    found = [(title, *histogram(values, _BINS)) for title, values in known.items() if values]
    panels = [Panel(title, counts) for title, _, counts in found]

    def name(axes: Axes, index: int) -> None:
        edges = found[index][1]
        places = (0, _BINS // 2, _BINS)
        axes.set_xlim(-0.5, _BINS - 0.5)
        labels = [tick_text(float(f"{edges[i]:.3g}")) for i in places]
        axes.set_xticks([i - 0.5 for i in places], labels)
        first, _, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")

    return _plot_panels(panels, _grid(panels, width, LINE, LINE), name, shown.noun)


def _grid(panels: Sequence[Panel], width: float, below: float, between: float = 0.0) -> Grid:
    """Arrange panels in one column, or two where the figure is wide."""
    columns = 2 if len(panels) > 1 and (width > 5 or _are_small(panels, width / 2)) else 1
    rows = max(1, -(-len(panels) // columns))
    numbers = max((text_width(tick_text(_top(panel))) for panel in panels), default=0.0)
    left, step = _EDGE + numbers + 0.09 + (_NAME if between else 0), _PANEL + _APART + between
    wide = width / columns - left - 2 * _EDGE
    bottom = below + _EDGE
    height = bottom + rows * step - between - _APART + LINE + 2 * _EDGE
    places = [
        (left + width / columns * (i // rows), bottom + step * (rows - 1 - i % rows))
        for i in range(len(panels))
    ]
    return Grid(width, height, places, left, wide)


def _are_small(panels: Sequence[Panel], width: float) -> bool:
    """Return whether many panels have titles that fit into half a column."""
    widest = max(text_width(panel.title) for panel in panels)
    return len(panels) > _MANY and widest < 0.7 * width


def _top(panel: Panel) -> float:
    """Return where the axis of a panel ends: at a round number."""
    known = [value for value in panel.heights if value is not None]
    return linear_axis([0.0, max(known, default=0.0) or 1.0], 0, 1)[1][-1]


def _plot_panels(
    panels: Sequence[Panel], grid: Grid, name: Callable[[Axes, int], None], noun: str = ""
) -> Figure:
    figure = new_figure(grid.width, grid.height)
    for index, (panel, place) in enumerate(zip(panels, grid.places, strict=True)):
        axes = new_axes(figure, *place, grid.wide, _PANEL)
        _draw_bars(axes, panel, 0.96 if noun else 0.8)
        title = fitted(panel.title, grid.wide)
        axes.text(0, 1 + 0.05 / _PANEL, title, size=TEXT, transform=axes.transAxes)
        if noun:
            axes.set_ylabel(noun, size=TEXT)
            axes.yaxis.set_label_coords((_NAME - grid.left) / grid.wide, 0.5)
        name(axes, index)
    return figure


def _draw_bars(axes: Axes, panel: Panel, wide: float) -> None:
    known = [(x, value) for x, value in enumerate(panel.heights) if value]
    axes.bar([x for x, _ in known], [v for _, v in known], wide, color=SERIES[0])
    top = _top(panel)
    axes.set_ylim(0, top)
    axes.set_yticks([0, top], ["0", tick_text(top)])
    axes.grid(True, axis="y")
