"""What figures show, whoever draws them: ``charts`` for the page, ``plots`` for files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LARGEST, SMALLEST = 1e30, 1e-30  # that are drawn; files may claim anything

Counts = Mapping[str, Sequence[int]]
Panels = Mapping[str, Sequence[float | None]]


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


@dataclass(frozen=True)
class Curves:
    """Curves over named axes, and as ``chance`` what a model scores that sees nothing.

    ``whole_x`` is for numbers of rounds; the axis of y stays within ``limits``. ``ceiling`` is
    where it may end although a few values lie far above, such as the loss of a run that diverged.
    """

    lines: Sequence[Line]
    x: str
    y: str
    whole_x: bool = False
    log_y: bool = False
    chance: Line | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    ceiling: float = math.inf


@dataclass(frozen=True)
class HeatMap:
    """Counts in rows and columns, darker for more; ``by_row`` shades shares of a row."""

    values: Sequence[Sequence[int]]
    rows: Sequence[str]
    columns: Sequence[str]
    y: str
    x: str
    by_row: bool = False


@dataclass(frozen=True)
class Bars:
    """A row of bars for each quantity, one bar for each client; None has no bar."""

    panels: Panels
    clients: Sequence[str]


@dataclass(frozen=True)
class Histograms:
    """For each quantity, how many of the ``noun`` have a value in each interval."""

    panels: Panels
    noun: str


Diagram = Curves | HeatMap | Bars | Histograms


def label_map(counts: Counts, classes: Sequence[str]) -> HeatMap:
    """Return how many examples of each class every client has."""
    rows = [list(row) for row in counts.values()]
    return HeatMap(rows, list(counts), classes, "client", "class")


def confusion_map(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> HeatMap:
    """Return predicted over true classes, by shares of a row, so that rows compare."""
    return HeatMap(matrix, classes, classes, "true class", "predicted class", by_row=True)


@dataclass(frozen=True)
class DrawnLine:
    """A line without the points that cannot be drawn."""

    label: str
    x: list[float]
    y: list[float]
    lower: list[float | None]
    upper: list[float | None]
    level: bool

    @property
    def heights(self) -> list[float]:
        """All values of the curve and its band."""
        return [*self.y, *(v for v in (*self.lower, *self.upper) if v is not None)]


def drawable(line: Line, *, log: bool) -> DrawnLine:
    """Leave out what was not measured or is too large; raise what a logarithmic axis lacks."""
    lower, upper = (side or [None] * len(line.x) for side in (line.lower, line.upper))
    points = [
        (a, max(b, SMALLEST) if log else b, low, high)
        for a, b, low, high in zip(line.x, line.y, lower, upper, strict=True)
        if b is not None and can_be_drawn(a) and can_be_drawn(b)
    ]
    return DrawnLine(
        line.label,
        [a for a, _, _, _ in points],
        [b for _, b, _, _ in points],
        [_bounded(low, log=log) for _, _, low, _ in points],
        [_bounded(high, log=log) for _, _, _, high in points],
        line.level,
    )


def can_be_drawn(value: float) -> bool:
    """Return whether a value is finite and not absurdly large."""
    return math.isfinite(value) and abs(value) <= LARGEST


def _bounded(value: float | None, *, log: bool) -> float | None:
    if value is None or not can_be_drawn(value):
        return None
    return max(value, SMALLEST) if log else value


def histogram(values: Sequence[float], bins: int) -> tuple[list[float], list[int]]:
    """Return the edges of intervals of one width that hold all values, and how many each holds."""
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
    width = (high - low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [low + width * i for i in range(bins + 1)], counts
