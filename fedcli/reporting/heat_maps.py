"""Heat maps of the page: how often each pair of names goes together."""

import math
from collections.abc import Sequence

from fedcli.reporting.chart_parts import RIGHT, ROW, TOP, WIDTH, Chart, column_names
from fedcli.reporting.diagrams import HeatMap
from fedcli.reporting.svg import FONT, LINE, element, number, shortened, text, text_width

_ROOMY = 24  # rows, up to which each has room for its name
_SHADES = 10


def heat_map(shown: HeatMap) -> Chart:
    """Draw a matrix in shades, with its numbers where they fit."""
    values, rows, columns, y, x = shown.values, shown.rows, shown.columns, shown.y, shown.x
    by_row = shown.by_row
    left = 6 + min(110.0, max(map(text_width, rows), default=0.0))
    comfortable = max(44.0, 8 + max(map(text_width, columns), default=0.0))
    wide = min(comfortable, (WIDTH - RIGHT - left) / max(1, len(columns)))
    high = min(22.0, max(ROW + 3, wide)) if len(rows) <= _ROOMY else max(3.0, 340 / len(rows))
    bottom = TOP + high * len(rows)
    cells = _cells(values, (left, TOP), (wide, high), by_row=by_row)
    names, below = column_names(columns, left, wide, bottom)
    every = max(1, math.ceil(ROW / high))
    beside = "".join(
        text(shortened(name, left - 6), left - 6, TOP + high * (i + 0.5) + 4, text_anchor="end")
        for i, name in enumerate(rows)
        if i % every == 0
    )
    middle = left + wide * len(columns) / 2
    middle = max(middle, text_width(x) / 2)
    titles = text(y, 0, FONT, kind="axis")
    titles += text(x, middle, below + LINE, text_anchor="middle", kind="axis")
    data = {
        "kind": "cells",
        "box": [left, TOP, wide, high],
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
    fits = size[1] >= ROW and text_width(str(largest)) + 2 <= size[0]
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
