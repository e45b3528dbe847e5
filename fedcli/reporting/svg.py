"""What charts on a page are drawn from: SVG elements, axes, and the width of text.

Colours are classes that the style sheet of the page defines, so that a chart is the same in light,
in dark and in print. Lengths are in units of the drawing, in which text is ``FONT`` high.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

FONT = 11
LINE = 15  # from one line of text to the next

_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[] "), frozenset("mwMW@%—…")
_EM = {"narrow": 0.38, "wide": 0.98, "upper": 0.74, "other": 0.61}  # the widest of common fonts
_STEPS = (1, 2, 2.5, 5, 10)


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an SVG element; ``content`` is SVG already, attributes are escaped.

    ``kind`` is written as ``class``, and underscores as hyphens.
    """
    written = "".join(
        f' {"class" if key == "kind" else key.replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else escape(str(value))


def number(value: float) -> str:
    """Write a length with one decimal at most."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def text(content: str, x: float, y: float, **attributes: object) -> str:
    """Return text that starts at a point, or ends or is centred there with ``text_anchor``."""
    return element("text", escape(content), x=float(x), y=float(y), **attributes)


def text_width(content: str) -> float:
    """Return a length that the text is not wider than, in any common font."""
    return FONT * sum(map(_width, content))


def _width(character: str) -> float:
    if character in _NARROW:
        return _EM["narrow"]
    if character in _WIDE or unicodedata.east_asian_width(character) in "WF":
        return max(_EM["wide"], 1.1 * (ord(character) > 0x2E80))
    return _EM["upper"] if character.isupper() else _EM["other"]


def tick_text(value: float) -> str:
    """Write the number at a tick of an axis."""
    return f"{value:g}" if abs(value) < 1e5 else f"{value:.3g}".replace("e+0", "e").replace("+", "")


def shortened(content: str, width: float, measure: Callable[[str], float] = text_width) -> str:
    """Cut text in its middle to a width: names of runs differ at both ends."""
    if measure(content) <= width:
        return content
    for kept in range(len(content) - 1, 1, -1):
        short = f"{content[: kept - kept // 2]}…{content[len(content) - kept // 2 :]}"
        if measure(short) <= width:
            return short
    return "…"


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` lie between the places ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, within the axis."""
        share = (self._scaled(value) - self._scaled(self.low)) / (
            self._scaled(self.high) - self._scaled(self.low)
        )
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def linear_axis(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    whole: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[Axis, list[float]]:
    """Return an axis that shows all values, and its ticks.

    It begins at 0 if the values are far apart, and stays within ``limits``. ``whole`` is for
    numbers of rounds: ticks are whole numbers and the axis ends with the last value.
    """
    known = list(values) or [0.0]
    low, high = min(known), max(known)
    if 0 <= low < 0.4 * high or whole:
        low = min(low, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(low) / 10 or 1.0
        low = low if whole else max(low - margin, min(low, limits[0]))
        high = high + margin if whole else min(high + margin, max(high, limits[1]))
    step = _step((high - low) / 5, whole=whole)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    ticks = [index * step for index in range(first, last + 1)]
    ticks = [tick for tick in ticks if limits[0] <= tick <= limits[1]] or [low]
    if whole:
        ticks = [tick for tick in ticks if tick <= high]
        return Axis(low, high, start, end), ticks
    low, high = max(min(low, ticks[0]), limits[0]), min(max(high, ticks[-1]), limits[1])
    return Axis(low, high, start, end), ticks


def _step(least: float, *, whole: bool) -> float:
    unit = 10.0 ** math.floor(math.log10(least))
    step = next(unit * step for step in _STEPS if unit * step >= least * (1 - 1e-9))
    return max(1.0, float(math.ceil(step))) if whole else step


def log_axis(values: Sequence[float], start: float, end: float) -> tuple[Axis, list[float]]:
    """Return a logarithmic axis that shows all values, which are above 0, and its ticks.

    Values that are close together have a linear one: there, few numbers are round.
    """
    low, high = min(values) / 1.2, max(values) * 1.2
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = -(-len(decades) // 6)
    marks = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [mark * 10.0**exponent for exponent in decades[::every] for mark in marks]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:
        return linear_axis(values, start, end)
    return Axis(low, high, start, end, log=True), ticks
