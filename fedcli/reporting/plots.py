"""Plots in files by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.reporting.plot_style import INK, PAPER, SERIES, drawing, new_figure
from fedcli.storage.atomic import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":")
_FORMATS = (".png", ".svg", ".pdf")
_LEGEND = 8  # rows of a legend; fewer entries stand in several columns
_FEW = 12  # columns, up to which every cell has room for its number

_LARGEST = 1e30  # matplotlib overflows above; files may claim anything
_SMALLEST = 1e-30  # on a logarithmic axis

Counts = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Line:
    """One curve; a None in ``y`` is a point that was not measured.

    A ``level`` is drawn as a horizontal line through its last point, whatever its x. ``lower`` and
    ``upper`` are the edges of a band around the curve, one for each point; empty without a band.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    level: bool = False
    lower: Sequence[float | None] = ()
    upper: Sequence[float | None] = ()


def curves(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    whole_x: bool = False,
    log_y: bool = False,
    others: Sequence[Line] = (),
) -> Figure:
    """Draw curves, both axes from 0; ``x`` and ``y`` are the names of the axes.

    With ``log_y``, the values are above 0 and their axis is logarithmic. ``others`` are drawn
    thinly behind the curves and are not in the legend.
    """
    with drawing():
        from matplotlib.ticker import MaxNLocator

        figure = new_figure(5.6, 3.6)
        axes = figure.add_subplot(facecolor="none")
        for line in others:
            axes.plot(*_points(line), color=INK, alpha=0.3, linewidth=0.8, marker=".", markersize=3)
        handles = [_draw_line(axes, i, line) for i, line in enumerate(lines)]
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_xlim(left=0)
        if log_y:
            _log_scale(axes, [*lines, *others])
        else:
            axes.set_ylim(bottom=0)
        axes.grid(True, linewidth=0.6)
        if whole_x:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(lines) > 1 or (lines and others):
            labels = [line.label for line in lines]
            columns = -(-_LEGEND // min(len(lines), _LEGEND))
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        return figure


def _points(line: Line) -> tuple[list[float], list[float]]:
    """Return the points of a curve that were measured and can be drawn."""
    pairs = zip(line.x, line.y, strict=True)
    points = [(x, y) for x, y in pairs if y is not None and _can_be_drawn(x, y)]
    return [x for x, _ in points], [y for _, y in points]


def _can_be_drawn(*values: float) -> bool:
    return all(abs(value) <= _LARGEST for value in values)


def _log_scale(axes: Axes, lines: Sequence[Line]) -> None:
    """Make the y axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    known = [max(y, _SMALLEST) for line in lines for y in _points(line)[1]]
    axes.set_yscale("log")
    if known:
        axes.set_ylim(min(known) / 1.5, max(known) * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _draw_line(axes: Axes, index: int, line: Line) -> Any:
    x, y = _points(line)
    dash = _DASHES[index % len(_DASHES)]
    if line.level and y:
        return axes.axhline(y[-1], color=SERIES[index % len(SERIES)], linestyle=dash)
    (handle,) = axes.plot(
        x,
        y,
        color=SERIES[index % len(SERIES)],
        linestyle=dash,
        linewidth=1.6,
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=4,
        markevery=max(1, len(x) // 20),
    )
    return handle


def label_distribution(counts: Counts, classes: Sequence[str]) -> Figure:
    """Draw how many examples of each class every client has; darker is more."""
    return _heat_map(
        [list(row) for row in counts.values()], list(counts), classes, "client", "class"
    )


def confusion_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw predicted over true classes; shades are shares of a row, so that rows compare."""
    return _heat_map(matrix, classes, classes, "true class", "predicted class", by_row=True)


def _heat_map(
    values: Sequence[Sequence[int]],
    rows: Sequence[str],
    columns: Sequence[str],
    y: str,
    x: str,
    *,
    by_row: bool = False,
) -> Figure:
    with drawing():
        width = 1.6 + max(2.4, min(6.0, 0.42 * len(columns)))
        figure = new_figure(width, 1.2 + max(0.6, min(6.0, 0.30 * len(rows))))
        axes = figure.add_subplot(facecolor="none")
        largest = max((v for row in values for v in row), default=0)
        for i, row in enumerate(values):
            scale = sum(row) if by_row else largest
            _draw_cells(axes, i, row, scale, numbers=len(rows) <= 30 and len(columns) <= _FEW)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        _name_ticks(axes.xaxis, columns, 40, rotation=0 if _short(columns) else 90)
        _name_ticks(axes.yaxis, rows, 30)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return figure


def _short(names: Sequence[str]) -> bool:
    return len(names) <= _FEW and max(map(len, names), default=0) <= 4


def _draw_cells(axes: Axes, y: int, row: Sequence[int], scale: float, *, numbers: bool) -> None:
    from matplotlib.patches import Rectangle

    for x, value in enumerate(row):
        if not value:
            continue
        share = value / scale
        axes.add_patch(
            Rectangle(
                (x - 0.47, y - 0.46), 0.94, 0.92, facecolor=(SERIES[0], 0.08 + 0.92 * share), lw=0
            )
        )
        if numbers:
            colour = PAPER if share > 0.7 else INK
            axes.text(x, y, str(value), ha="center", va="center", color=colour, fontsize=7)


def _name_ticks(axis: Any, names: Sequence[str], limit: int, *, rotation: int = 0) -> None:
    """Name the ticks, or as many of them as there is room for."""
    step = -(-len(names) // limit)
    places = range(0, len(names), max(step, 1))
    short = [n if len(n) <= 18 else f"{n[:17]}…" for n in (names[i] for i in places)]
    axis.set_ticks(list(places), short, rotation=rotation, fontsize=8 if len(places) <= 20 else 6)


def client_bars(panels: Mapping[str, Sequence[float | None]], clients: Sequence[str]) -> Figure:
    """Draw one row of bars per quantity, one bar per client; None has no bar."""
    with drawing():
        figure = new_figure(5.6, 0.6 + 1.3 * len(panels))
        for i, (name, values) in enumerate(panels.items()):
            axes = figure.add_subplot(len(panels), 1, i + 1, facecolor="none")
            known = [
                (x, float(value))
                for x, value in enumerate(values)
                if value is not None and _can_be_drawn(value)
            ]
            heights = [value for _, value in known]
            axes.bar([x for x, _ in known], heights, 0.8, color=SERIES[i % len(SERIES)], alpha=0.9)
            axes.set_xlim(-0.6, max(len(clients), 3) - 0.4)
            axes.set_title(name, fontsize=9, loc="left")
            axes.grid(True, axis="y", linewidth=0.6)
            axes.set_axisbelow(True)
            names = clients if i == len(panels) - 1 else [""] * len(clients)
            long = max(map(len, names), default=0) * len(names) > 60 and len(names) <= 40
            _name_ticks(axes.xaxis, names, 40 if long else 20, rotation=90 if long else 0)
        axes.set_xlabel("client")
        return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .svg or .pdf; the same figure gives the same bytes.

    Raises ``UsageError`` for another suffix, and ``StorageError``.
    """
    check_picture_path(path)
    write_bytes(path, _encode(figure, path.suffix.lower().removeprefix("."), facecolor=PAPER))


def _encode(figure: Figure, kind: str, **options: Any) -> bytes:
    volatile = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    data = io.BytesIO()
    with drawing():
        figure.savefig(data, format=kind, dpi=150, metadata=volatile[kind], **options)
    return data.getvalue()


def check_picture_path(path: Path) -> None:
    """Refuse, before any work is done, what ``save_figure`` could not write.

    Raises ``UsageError`` for another suffix, and ``MissingDependencyError`` without matplotlib.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(_FORMATS)}")
    with drawing():
        pass
