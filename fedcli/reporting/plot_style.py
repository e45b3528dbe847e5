"""Colours and matplotlib settings of plots, independent of the user's own.

Series differ in marker and dash too, and the colours are told apart with every common kind of
colour blindness (Okabe and Ito, "Color Universal Design", 2008).
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedcli.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

INK = "#24292e"
GRID = "#d8dee4"
PAPER = "#fffffe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


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
                "xtick.color": INK,
                "ytick.color": INK,
                "font.size": 9,
                "text.parse_math": False,  # a class may be called $x$
                "axes.spines.top": False,
                "axes.spines.right": False,
                "grid.color": GRID,
                "legend.frameon": False,
                "svg.fonttype": "none",
                "svg.hashsalt": "fedcli",
            }
        )
        with warnings.catch_warnings():
            # the font may lack the script of a name; the reader's browser has it
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained", facecolor=PAPER)
