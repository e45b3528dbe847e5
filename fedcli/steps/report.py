"""The step of ``fedcli report``."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import NotReadyError, UsageError
from fedcli.progress import Progress, Silence
from fedcli.reporting.collect import collect
from fedcli.reporting.compare import compare
from fedcli.reporting.metric import metric_named
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.target import check_target
from fedcli.run import Run
from fedcli.storage.atomic import storage_errors, write_bytes
from fedcli.system import rare_collection
from fedcli.text import brief

if TYPE_CHECKING:
    from fedcli.trackers.tracker import Tracker

_SAID = 12  # figures, of which each is said


@rare_collection()
def report(
    runs: Sequence[Run],
    *,
    labels: Sequence[str] = (),
    metric: str = "accuracy",
    target: float | None = None,
    group_by: Sequence[str] = (),
    details: bool = False,
    html: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    csv: Path | None = None,
    parquet: Path | None = None,
    figures: Path | None = None,
    figure_format: str = "pdf",
    figure_width: str = "one",
    tensorboard: Path | None = None,
    mlflow: str | None = None,
    wandb_offline: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Put runs side by side, and write the report to the named files.

    Runs are called by ``labels``, in the same order, or else by their directories. The same runs
    give the same bytes in every file; a file that holds them already is left as it is. ``metric``
    is a name in ``METRICS``: what the runs are judged by, and ``target`` a value of it to reach.
    ``group_by`` is as in ``methods_of``; with ``details``, the Markdown and the LaTeX have the
    tables of each run also where many are compared.

    ``figures`` is a directory: each figure of the page becomes a file in it, as ``figure_format``
    (``pdf``, ``svg``, ``png``), ``figure_width`` (``one``, ``two``) columns of a paper wide.

    A file of a run that cannot be used is left out, and a note names it. Raises ``UsageError``
    unless there is one label per run, for an unknown metric or option to group by, for an
    impossible target, and for figures that cannot be; ``NotReadyError`` if no run has anything to
    report yet; and ``MissingDependencyError`` for ``parquet`` without pyarrow, figures without
    matplotlib, and a tracker without its library. ``tensorboard`` and ``wandb_offline`` are
    directories, ``mlflow`` is a URI; each has a run once, by its id and label.
    """
    progress, judged_by = progress or Silence(), metric_named(metric)
    if target is not None:
        check_target(target, judged_by)
    if figures is not None:
        from fedcli.reporting.figure_files import check_figures

        check_figures(figures, figure_format, figure_width)
    progress.start("reading", len(runs))
    collected = []
    for run, label in zip(runs, _labels(runs, labels), strict=True):
        collected.append(collect(run, label))
        progress.advance()
    if not any(map(_says_something, collected)):
        raise NotReadyError(
            "nothing to report yet: no client has trained in it",
            hint=runs[0].command("status"),
            path=runs[0].root,
        )
    result = compare(collected, judged_by, target, group_by)
    _write(result, html, markdown, latex, csv, parquet, progress, details=details)
    if figures is not None:
        _draw(result, figures, figure_format, figure_width, progress)
    if trackers := [*_trackers(tensorboard, mlflow, wandb_offline)]:
        _track(result, trackers, progress)
    return result


def _labels(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    if labels and len(labels) != len(runs):
        raise UsageError(f"--label: expected one for each of {len(runs)} runs, found {len(labels)}")
    if not labels:
        names = [run.root.resolve().name for run in runs]
        # the paths as given tell directories of the same name apart
        labels = [
            str(run.root) if names.count(name) > 1 else name
            for run, name in zip(runs, names, strict=True)
        ]
    repeated = [label for label, times in Counter(labels).items() if times > 1]
    if repeated:
        raise UsageError(f"two runs are called {repeated[0]!r}: tell them apart with --label")
    return list(labels)


def _says_something(run: RunReport) -> bool:
    return any(round_.number > 0 or round_.scores for round_ in run.rounds) or any(
        client.label_counts for client in run.clients
    )


def _write(
    report: Report,
    html: Path | None,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
    parquet: Path | None,
    progress: Progress,
    *,
    details: bool,
) -> None:
    if html:
        from fedcli.reporting.page import to_html

        _put(html, to_html(report).encode(), progress)
    if markdown:
        from fedcli.reporting.markdown import to_markdown

        _put(markdown, to_markdown(report, details=details).encode(), progress)
    if latex:
        from fedcli.reporting.latex import to_latex

        _put(latex, to_latex(report, details=details).encode(), progress)
    if csv:
        from fedcli.reporting.tidy import to_csv

        _put(csv, to_csv(report).encode(), progress)
    if parquet:
        from fedcli.reporting.tidy import to_parquet

        _put(parquet, to_parquet(report), progress)


def _draw(report: Report, directory: Path, kind: str, columns: str, progress: Progress) -> None:
    from fedcli.reporting.figure_files import drawn_files, named_figures, summary

    found = named_figures(report)
    progress.start("drawing", len(found))
    each, old, lacking = (progress if len(found) <= _SAID else Silence()), 0, set[str]()
    for file in drawn_files(found, directory, kind, columns):
        old += not _put(file.path, file.data, each)
        lacking |= file.lacking
        progress.advance()
    if len(found) > _SAID or not found:
        progress.say(summary(found, directory, old))
    if lacking:
        font = f"the font of {kind} files lacks {brief(''.join(sorted(lacking)))}"
        progress.say(f"{font}: choose --format svg, where the reader's fonts have them")


def _trackers(
    tensorboard: Path | None, mlflow: str | None, wandb_offline: Path | None
) -> Iterator["Tracker"]:
    if tensorboard is not None:
        from fedcli.trackers.tensorboard import TensorBoard

        yield TensorBoard(tensorboard)
    if mlflow is not None:
        from fedcli.trackers.mlflow import MLflow

        yield MLflow(mlflow)
    if wandb_offline is not None:
        from fedcli.trackers.wandb import WandbOffline

        yield WandbOffline(wandb_offline)


def _track(report: Report, trackers: Sequence["Tracker"], progress: Progress) -> None:
    from fedcli.trackers.tracker import track

    for tracker in trackers:
        track(report.runs, tracker, progress)


def _put(path: Path, data: bytes, progress: Progress) -> bool:
    """Write a file unless it holds the data already; return whether it was written."""
    with storage_errors("read", path):
        is_there = path.is_file() and path.read_bytes() == data
    if is_there:
        progress.say(f"{path}: already done, nothing changed")
        return False
    write_bytes(path, data)
    progress.say(f"wrote {path}")
    return True
