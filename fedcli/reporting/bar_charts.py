"""Bars of the page: a panel for each quantity, with a bar per client or per range of values."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fedcli.reporting.chart_parts import (
    RIGHT,
    WIDTH,
    Chart,
    column_names,
    known_values,
    move,
    rounded,
    shown_value,
)
from fedcli.reporting.diagrams import Bars, Histograms, can_be_drawn, histogram
from fedcli.reporting.svg import LINE, Axis, element, number, text, tick_text

_BINS = 24


def bar_chart(shown: Bars) -> Chart:
    """Draw a panel for each quantity, with a bar per client."""
    clients = shown.clients
    wide = (WIDTH - RIGHT - 44) / len(clients)
    parts, data, top = [], [], LINE
    for title, values in shown.panels.items():
        known = [value for value in known_values(values) if can_be_drawn(value) and value >= 0]
        axis = Axis(0, max(known, default=0) or 1, top + 62.0, top + 6.0)
        parts.append(_panel(title, axis, top, tick_text(rounded(axis.high)) if known else ""))
        bars = "".join(
            _bar(44 + wide * i, wide, axis, value)
            for i, value in enumerate(values)
            if value is not None and can_be_drawn(value) and value > 0
        )
        parts.append(element("path", kind="bar", d=bars) if bars else "")
        data.append(_panel_data(title, top, [*map(shown_value, values)]))
        top += 62 + 2 * LINE
    names, below = column_names(clients, 44, wide, top - 2 * LINE + 2)
    parts += [names, text("client", 44, below + LINE, kind="axis")]
    box = [44, wide]
    return Chart(
        "".join(parts),
        below + LINE + 6,
        {"kind": "bars", "box": box, "names": list(clients), "noun": "client", "panels": data},
    )


def _panel(title: str, axis: Axis, top: float, largest: str) -> str:
    base = element("path", kind="base", d=move(44, axis.start, WIDTH - RIGHT, axis.start))
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


def distribution_chart(shown: Histograms) -> Chart:
    """Draw a panel for each quantity, with a bar per range of its values."""
    wide = (WIDTH - RIGHT - 44) / _BINS
    parts, data, top = [], [], LINE
    for title, values in shown.panels.items():
        known = [value for value in known_values(values) if can_be_drawn(value)]
        if not known:
            continue
        edges, counts = histogram(known, _BINS)
        axis = Axis(0, max(counts), top + 62.0, top + 6.0)
        parts.append(_panel(title, axis, top, str(max(counts))))
        bars = "".join(_bar(44 + wide * i, wide, axis, n) for i, n in enumerate(counts) if n)
        parts.append(element("path", kind="bar", d=bars))
        for i, anchor in ((0, "start"), (_BINS // 2, "middle"), (_BINS, "end")):
            place = (44 + wide * i, axis.start + LINE - 1)
            parts.append(text(tick_text(rounded(edges[i])), *place, text_anchor=anchor))
        between = [
            f"{tick_text(rounded(a))} to {tick_text(rounded(b))}" for a, b in pairwise(edges)
        ]
        data.append({**_panel_data(title, top, counts), "names": between})
        top += 62 + 3 * LINE
    labels = {"kind": "bars", "box": [44, wide], "names": [], "noun": "", "of": shown.noun}
    return Chart("".join(parts), top - LINE, {**labels, "panels": data})
