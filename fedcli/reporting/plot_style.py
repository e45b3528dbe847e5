"""Colours, lines, text and matplotlib settings of plots, independent of the user's own.

Series differ in colour, dash and marker, so that 40 are told apart, also in grey; the colours
are told apart with every common kind of colour blindness (Okabe and Ito, "Color Universal
Design", 2008). Lengths are in inches.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from fedcli.errors import MissingDependencyError
from fedcli.reporting.svg import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292e"
GRID = "#d8dee4"
PAPER = "#fffffe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TEXT, TITLE = 7.0, 8.0  # points: of ticks and labels, and of the names of axes
LINE = 0.132  # from one line of text to the next

_NARROW = 0.25  # of the size of text: the width of its narrowest letter
_MARKERS = "osD^vP"
_DASHES = ("-", (0, (4, 1.6)), (0, (5, 1.4, 1.2, 1.4)), (0, (1.6, 1.4)))


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with these settings, independently of the user's matplotlibrc.

    Raises ``MissingDependencyError`` without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError(
            "pictures are drawn by matplotlib, which is not installed",
            hint="pip install 'fedcli[plots]'",
        ) from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": INK,
                "axes.linewidth": 0.6,
                "xtick.color": INK,
                "ytick.color": INK,
                "xtick.major.width": 0.6,
                "ytick.major.width": 0.6,
                "xtick.major.size": 2.5,
                "ytick.major.size": 2.5,
                "font.size": TEXT,
                "axes.labelsize": TITLE,
                "xtick.labelsize": TEXT,
                "ytick.labelsize": TEXT,
                "text.parse_math": False,  # a class may be called $x$
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "grid.color": GRID,
                "grid.linewidth": 0.5,
                "pdf.fonttype": 42,  # TrueType: what publishers ask for
                "svg.fonttype": "none",
                "svg.hashsalt": "fedcli",
            }
        )
        with warnings.catch_warnings():
            # the font may lack the script of a name; the reader's browser has it
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure."""
    from matplotlib.figure import Figure

    return Figure((width, height), facecolor=PAPER)


def new_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes whose data is in this rectangle; names and numbers stand around it."""
    wide, high = figure.get_size_inches()
    place = (left / wide, bottom / high, width / wide, height / high)
    return figure.add_axes(place, facecolor="none")


@lru_cache(maxsize=4096)
def text_width(content: str, size: float = TEXT) -> float:
    """Return how wide a line of text is. It is to be called within ``drawing``."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(content, font, False)
    return float(width) / 72


def fitted(content: str, width: float, size: float = TEXT) -> str:
    """Cut text in its middle to a width."""
    most = max(2, int(width / (_NARROW * size / 72)))
    if len(content) > most:  # measured once rather than for each of thousands of lengths
        content = f"{content[: most // 2]}…{content[len(content) - most // 2 :]}"
    return shortened(content, width, partial(text_width, size=size))


def line_style(index: int) -> dict[str, Any]:
    """Return colour, dash and marker of a series; those of the first 144 all differ."""
    colours, dashes, markers = len(SERIES), len(_DASHES), len(_MARKERS)
    return {
        "color": SERIES[index % colours],
        "linestyle": _DASHES[index // colours % dashes],
        "marker": _MARKERS[(index + index // (colours * dashes)) % markers],
        "linewidth": 1.2,
        "markersize": 3.4,
        "markeredgewidth": 0,
    }


def chance_style() -> dict[str, Any]:
    """Return how the line of a model that sees nothing is drawn."""
    return {"color": INK, "linestyle": (0, (1, 2)), "linewidth": 0.9}
