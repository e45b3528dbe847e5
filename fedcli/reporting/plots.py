"""Figures in files by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.reporting.curve_plots import plot_curves
from fedcli.reporting.diagrams import Bars, Curves, HeatMap, label_map
from fedcli.reporting.panel_plots import plot_bars, plot_heat_map, plot_histograms
from fedcli.reporting.plot_style import PAPER, drawing
from fedcli.storage.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from fedcli.reporting.diagrams import Counts, Diagram

FORMATS = ("pdf", "svg", "png")
COLUMNS = {"one": 3.4, "two": 7.0}  # inches: the columns of a paper
_DOTS = 300  # per inch


def plot(diagram: Diagram, width: float) -> Figure:
    """Draw what a figure shows, ``width`` inches wide; its height follows."""
    with drawing():
        if isinstance(diagram, Curves):
            return plot_curves(diagram, width)
        if isinstance(diagram, HeatMap):
            return plot_heat_map(diagram, width)
        if isinstance(diagram, Bars):
            return plot_bars(diagram, width)
        return plot_histograms(diagram, width)


def label_distribution(counts: Counts, classes: Sequence[str]) -> Figure:
    """Draw how many examples of each class every client has; darker is more."""
    return plot(label_map(counts, classes), COLUMNS["two"])


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .pdf, .svg or .png; the same figure gives the same bytes.

    Raises ``UsageError`` for another suffix, and ``StorageError``.
    """
    check_picture_path(path)
    write_bytes(path, encoded(figure, path.suffix.lower().removeprefix(".")))


def encoded(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a file in one of ``FORMATS``, without dates."""
    volatile: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    data = io.BytesIO()
    with drawing():
        figure.savefig(data, format=kind, dpi=_DOTS, metadata=volatile[kind], facecolor=PAPER)
    return data.getvalue()


def shapeless(figure: Figure) -> frozenset[str]:
    """Return the characters of a figure that the font has no shapes for."""
    with drawing():
        from matplotlib.font_manager import FontProperties, findfont, get_font
        from matplotlib.text import Text

        font = get_font(findfont(FontProperties()))
        texts = (found.get_text() for found in figure.findobj(Text) if isinstance(found, Text))
        characters = {character for text in texts for character in text}
        return frozenset(c for c in characters if not font.get_char_index(ord(c)))


def check_picture_path(path: Path) -> None:
    """Refuse, before any work is done, what ``save_figure`` could not write.

    Raises ``UsageError`` for another suffix, and ``MissingDependencyError`` without matplotlib.
    """
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        known = ", ".join(f".{kind}" for kind in FORMATS)
        raise UsageError(f"{path}: expected a name that ends in {known}")
    with drawing():
        pass
