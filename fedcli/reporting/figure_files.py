"""The figures of a report as files for a paper, each named by what it shows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import UsageError
from fedcli.reporting.diagrams import Diagram
from fedcli.reporting.figures import comparison_figures, run_figures
from fedcli.reporting.plot_style import drawing
from fedcli.reporting.plots import COLUMNS, FORMATS, encoded, plot, shapeless
from fedcli.reporting.report import Report

_LONGEST = 80  # characters of the name of a run in that of a file
_UNSAFE = re.compile(r"[^\w.+-]+")
_KINDS = {
    "bytes": "{metric}-by-mb",
    "epsilon": "{metric}-by-epsilon",
    "epsilon_clients": "{metric}-by-epsilon-of-clients",
    "roc": "roc-curve",
    "labels": "label-distribution",
    "confusion": "confusion-matrix",
    "norms": "update-norms",
    "clients": "clients",
}


def check_figures(directory: Path, kind: str, columns: str) -> None:
    """Refuse, before any work is done, figures that could not be written.

    Raises ``UsageError`` for a path that is not a directory, an unknown format or width, and
    ``MissingDependencyError`` without matplotlib.
    """
    for option, value, known in (("--format", kind, FORMATS), ("--width", columns, (*COLUMNS,))):
        if value not in known:
            raise UsageError(f"{option}: expected one of {', '.join(known)}, found {value!r}")
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--figures: expected a directory, found a file: {directory}")
    with drawing():
        pass


def named_figures(report: Report) -> dict[str, Diagram]:
    """Return every figure of the page by a name that is safe for a file.

    Those of one run among several are in a folder with the name of the run.
    """
    metric = report.metric.replace("_", "-")
    figures = {
        _KINDS.get(kind, f"{kind.replace('_', '-')}-by-round").format(
            kind=kind.replace("_", "-"), metric=metric
        ): shown
        for kind, shown, _ in comparison_figures(report)
    }
    for run, name in zip(report.runs, _names(report), strict=True):
        for kind, shown, _ in run_figures(run, report.headline):
            figures[f"{name}{_KINDS[kind]}"] = shown
    return figures


def _names(report: Report) -> list[str]:
    """Return the folder of each run; they differ also where case does not matter."""
    if len(report.runs) == 1:
        return [""]
    names: list[str] = []
    for run in report.runs:
        name = _UNSAFE.sub("_", run.label).strip(".-")[:_LONGEST] or "run"
        taken = {other.casefold() for other in names}
        number, free = 1, f"{name}/"
        while free.casefold() in taken:
            number += 1
            free = f"{name}-{number}/"
        names.append(free)
    return names


@dataclass(frozen=True)
class FigureFile:
    """A figure as a file; ``lacking`` are characters that its font has no shapes for."""

    path: Path
    data: bytes
    lacking: frozenset[str]


def drawn_files(
    figures: Mapping[str, Diagram], directory: Path, kind: str, columns: str
) -> Iterator[FigureFile]:
    """Yield each figure as a file; the same figures give the same bytes."""
    for name, shown in figures.items():
        figure = plot(shown, COLUMNS[columns])
        lacking = frozenset() if kind == "svg" else shapeless(figure)
        yield FigureFile(directory / f"{name}.{kind}", encoded(figure, kind), lacking)


def summary(figures: Mapping[str, Diagram], directory: Path, old: int) -> str:
    """Return one line on figures of which ``old`` were there already."""
    if not figures:
        return f"{directory}: nothing to draw yet: no scores, no label counts"
    shared = ", ".join(name for name in figures if "/" not in name)
    folders = len({name.partition("/")[0] for name in figures if "/" in name})
    there = f", of which {old} were there" if old else ""
    return f"wrote {len(figures)} figures{there}: {directory}/{{{shared}}} and {folders} folders"
