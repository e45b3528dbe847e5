"""The report as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcli.reporting import plots
from fedcli.reporting.documents import environment
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.model import Report, RunReport, Subject
from fedcli.reporting.plots import Line
from fedcli.reporting.roc_lines import CHANCE, X, Y, roc_lines
from fedcli.reporting.standouts import marks_over
from fedcli.reporting.tables import run_tables, shared_tables, shown_rounds, summary_table
from fedcli.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 8  # clients in the legend of a plot
_NORMS = "how much each client's training changed; those that stand out are named."
_PANELS = {
    "examples": ("examples", 1),
    "seconds": ("training time, all rounds (s)", 1),
    "local_accuracy": ("local accuracy after the last epoch (%)", 100),
    "own_accuracy": ("own model on the test data (%)", 100),
    "validation_accuracy": ("global model on its held-out examples (%)", 100),
    "test_accuracy": ("global model on its test examples (%)", 100),
    "personal_accuracy": ("personal model on its examples (%)", 100),
}


@dataclass(frozen=True)
class Picture:
    """A plot on the page: an SVG element, and the text below it."""

    drawing: str
    caption: str


def to_html(report: Report) -> str:
    """Return the page. Raises ``MissingDependencyError`` without matplotlib."""
    templates = environment("fedcli.reporting")
    templates.filters["printable"] = printable
    return templates.get_template("page.html.j2").render(
        report=report,
        summary=summary_table(report),
        pictures=list(_comparison_plots(report)),
        tables=shared_tables(report),
        runs=[_section(report, run, f"run{i}") for i, run in enumerate(report.runs)],
    )


def _section(report: Report, run: RunReport, name: str) -> dict[str, Any]:
    """Return what the page shows of one run; ``name`` makes the ids of its plots unique."""
    pictures = list(_run_plots(run, report.headline, name))
    tables = run_tables(run, report.headline, report.judged_by)
    return {"run": run, "pictures": pictures, "tables": tables}


def _picture(figure: "Figure", name: str, caption: str) -> Picture:
    return Picture(plots.svg(figure, name, printable(caption)), printable(caption))


def _comparison_plots(report: Report) -> Iterator[Picture]:
    headline = report.headline
    if headline is None:
        return
    subject, name, metric = headline, headline.name, report.judged_by
    title = f"{metric.title[:1].upper()}{metric.title[1:]}"
    lines = [_line(run, subject, metric) for run in report.runs]
    if _has_points(lines):
        figure = plots.curves(lines, x="round", y=metric.axis, whole_x=True)
        yield _picture(figure, metric.name, f"{title} over rounds ({name}), as measured.")
    if any(summary.bytes_total for summary in report.summary):
        exchanged = [_line(run, subject, metric, over_bytes=True) for run in report.runs]
        figure = plots.curves(exchanged, x="communication (MB)", y=metric.axis)
        level = any(run.centralised for run in report.runs)
        flat = f" A level line is the final {metric.title} of a centralised run." if level else ""
        yield _picture(figure, "bytes", f"{title} over what had been exchanged by then.{flat}")
    loss = [_line(run, subject, METRICS["loss"]) for run in report.runs]
    if metric.name != "loss" and _has_points(loss):
        figure = plots.curves(loss, x="round", y="loss", whole_x=True)
        yield _picture(figure, "loss", f"Loss over rounds ({name}).")
    if roc := roc_lines(report):
        figure = plots.curves(roc, x=X, y=Y, others=[CHANCE])
        yield _picture(figure, "roc", f"ROC curve of the latest round ({name}); thin: chance.")


def _has_points(lines: Sequence[Line]) -> bool:
    return any(y is not None for line in lines for y in line.y)


def _line(run: RunReport, subject: Subject, metric: Metric, *, over_bytes: bool = False) -> Line:
    rounds = shown_rounds(run, subject)
    if over_bytes:
        rounds = [round_ for round_ in rounds if round_.bytes_total is not None]
    x = [(r.bytes_total or 0) / 1e6 if over_bytes else float(r.number) for r in rounds]
    y = [_scaled(metric.of(round_.score(subject)), metric.scale) for round_ in rounds]
    # what costs nothing has no curve over its cost, only a level to compare with
    level = over_bytes and run.centralised
    return Line(printable(run.label), x, y, level)


def _run_plots(run: RunReport, headline: Subject | None, name: str) -> Iterator[Picture]:
    classes = [printable(c) for c in run.classes]
    counts = {printable(c.client): c.label_counts for c in run.clients if c.label_counts}
    if counts:
        figure = plots.label_distribution(counts, classes)
        yield _picture(figure, f"{name}-labels", f"{run.label}: examples of each class per client.")
    latest = run.latest(headline) if headline else None
    if latest and len(latest[1].confusion) == len(classes):
        figure = plots.confusion_matrix(latest[1].confusion, classes)
        shaded = f"confusion matrix, round {latest[0].number}; shaded by shares of a row."
        yield _picture(figure, f"{name}-confusion", f"{run.label}: {shaded}")
    if norms := _norm_lines(run):
        caption = f"{run.label}: {_NORMS}"
        yield _picture(_norm_curves(run, norms), f"{name}-norms", caption)
    panels = _client_panels(run)
    if panels and len(run.clients) > 1:
        figure = plots.client_bars(panels, [printable(c.client) for c in run.clients])
        yield _picture(figure, f"{name}-clients", f"{run.label}: the clients compared.")


def _norm_curves(run: RunReport, norms: Mapping[str, Line]) -> "Figure":
    standing_out = marks_over(run.complete_rounds())
    named = [line for client, line in norms.items() if client in standing_out][:_NAMED]
    others = [line for line in norms.values() if line not in named]
    return plots.curves(
        named, x="round", y="norm of the update", whole_x=True, log_y=True, others=others
    )


def _norm_lines(run: RunReport) -> dict[str, Line]:
    """Return one curve per client, if several rounds compared several updates."""
    norms: dict[str, dict[int, float]] = {}
    for round_ in run.complete_rounds():
        for client in round_.clients:
            if client.norm:
                norms.setdefault(client.client, {})[round_.number] = client.norm
    rounds = {number for values in norms.values() for number in values}
    if len(norms) < 2 or len(rounds) < 2:
        return {}
    return {
        client: Line(f"client {printable(client)}", list(values), list(values.values()))
        for client, values in norms.items()
    }


def _client_panels(run: RunReport) -> dict[str, list[float | None]]:
    """Return each quantity that is known of at least one client, in the order of the clients."""
    panels = {
        title: [_scaled(getattr(client, key), scale) for client in run.clients]
        for key, (title, scale) in _PANELS.items()
    }
    return {name: values for name, values in panels.items() if any(v is not None for v in values)}


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value
