"""Which figures a report has, on its page and as files: of all runs together, and of each run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import quantiles

from fedcli.reporting.diagrams import (
    Bars,
    Curves,
    Diagram,
    Histograms,
    Line,
    Panels,
    confusion_map,
    label_map,
)
from fedcli.reporting.methods import Over, is_level, method_lines, place
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Report
from fedcli.reporting.roc_lines import CHANCE, X, Y, roc_lines
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.standouts import marks_over
from fedcli.reporting.subject import Subject
from fedcli.reporting.tables import shown_rounds
from fedcli.text import printable

FEW_CLIENTS = 50  # of which each is drawn
_EACH = 12  # clients, up to which each has a curve of its own
_NAMED = 8  # clients of more that have one because they stand out
_FAR = 8  # times the lowest loss, from which the axis is logarithmic
_MOST, _ABOVE = 0.85, 10  # share of losses below a limit, and how many times as high that is
_CLASSES = 10  # with a histogram each
_PANELS = {
    "examples": ("examples", 1),
    "seconds": ("training time, all rounds (s)", 1),
    "local_accuracy": ("local accuracy after the last epoch (%)", 100),
    "own_accuracy": ("own model on the test data (%)", 100),
    "validation_accuracy": ("global model on its held-out examples (%)", 100),
    "test_accuracy": ("global model on its test examples (%)", 100),
    "personal_accuracy": ("personal model on its examples (%)", 100),
}

_AXES: dict[Over, str] = {
    "number": "round",
    "bytes_total": "communication (MB)",
    "epsilon": "ε of each example",
    "epsilon_clients": "ε of each client",
}

Named = tuple[str, Diagram, str]  # the name of a figure, what it shows, and what stands below it


def comparison_figures(report: Report) -> Iterator[Named]:
    """Yield the curves of all methods: by round, by MB, by ε, their loss, and their ROC curves."""
    subject, metric = report.headline, report.judged_by
    if subject is None:
        return
    title = f"{metric.title[:1].upper()}{metric.title[1:]}"
    spread = _bands(report)
    lines = _lines(report, metric, subject)
    if _has_points(lines):
        shown = _metric_curves(report, lines, "number")
        yield metric.name, shown, f"{title} over rounds ({subject.name}), as measured.{spread}"
    if any(summary.bytes_total for summary in report.summary):
        shown = _metric_curves(
            report, _lines(report, metric, subject, "bytes_total"), "bytes_total"
        )
        level = any(run.centralised for run in report.runs)
        flat = f" A level line is the final {metric.title} of a centralised run." if level else ""
        yield "bytes", shown, f"{title} over what had been exchanged by then.{flat}"
    yield from _over_epsilon(report, subject, title)
    loss = _lines(report, METRICS["loss"], subject)
    if metric.name != "loss" and _has_points(loss):
        shown = Curves(
            loss, "round", "loss", whole_x=True, log_y=_falls_far(loss), ceiling=_ceiling(loss)
        )
        yield "loss", shown, f"Loss over rounds ({subject.name}).{spread}"
    if roc := roc_lines(report):
        shown = Curves(roc, x=X, y=Y, chance=CHANCE)
        yield "roc", shown, f"ROC curve of the latest round ({subject.name}).{spread}"


def _over_epsilon(report: Report, subject: Subject, title: str) -> Iterator[Named]:
    """Yield the curves over what was spent of the privacy of examples, and of clients."""
    levels: tuple[tuple[Over, str], ...] = (("epsilon", "example"), ("epsilon_clients", "client"))
    for over, whom in levels:
        lines = _lines(report, report.judged_by, subject, over)
        if all(line.level for line in lines) or not _has_points(lines):
            continue
        flat = " A level line is a run without." if any(line.level for line in lines) else ""
        text = f"{title} over the ε that protects each {whom}; less is more private.{flat}"
        yield over, _metric_curves(report, lines, over), text


def _metric_curves(report: Report, lines: Sequence[Line], over: Over) -> Curves:
    metric, chance = report.judged_by, report.chance
    return Curves(
        lines,
        x=_AXES[over],
        y=metric.axis,
        whole_x=over == "number",
        log_y=metric.name == "loss" and _falls_far(lines),
        chance=None if chance is None else _chance(metric, chance),
        limits=(0, float("inf")) if metric.lowest_is_best else (0, metric.scale),
        ceiling=_ceiling(lines) if metric.lowest_is_best else math.inf,
    )


def _chance(metric: Metric, value: float) -> Line:
    unit = " %" if metric.scale == 100 else ""
    return Line(f"chance: {metric.show(value)}{unit}", [0.0], [metric.scale * value], level=True)


def _repeats(report: Report) -> bool:
    return any(method.n > 1 for method in report.methods)


def _bands(report: Report) -> str:
    deviation = " A curve is the mean of the runs of a method, its band one standard deviation."
    return deviation if _repeats(report) else ""


def _lines(report: Report, metric: Metric, subject: Subject, over: Over = "number") -> list[Line]:
    """Return the curves of methods where runs repeat them, else those of runs."""
    if _repeats(report):
        return method_lines(report, metric, over)
    return [_line(run, subject, metric, over) for run in report.runs]


def _has_points(lines: Sequence[Line]) -> bool:
    return any(y is not None for line in lines for y in line.y)


def _falls_far(lines: Sequence[Line]) -> bool:
    """Return whether a linear axis would press the ends of the curves together."""
    values = [v for line in lines for v in (*line.y, *line.lower, *line.upper) if v is not None]
    return min(values) > 0 and max(values) > _FAR * min(values)


def _ceiling(lines: Sequence[Line]) -> float:
    """Return a limit that few losses lie far above; infinity if there are none such."""
    losses = sorted(v for line in lines for v in line.y if v is not None)
    limit = _ABOVE * losses[int(_MOST * (len(losses) - 1))]
    return limit if 0 < _ABOVE * limit < losses[-1] else math.inf


def _line(run: RunReport, subject: Subject, metric: Metric, over: Over) -> Line:
    rounds = shown_rounds(run, subject)
    # what costs nothing has no curve over its cost, only a level to compare with
    level = is_level(rounds, over, centralised=run.centralised)
    rounds = [round_ for round_ in rounds if level or getattr(round_, over) is not None]
    x = [0.0 if level else place(round_, over) for round_ in rounds]
    y = [_scaled(metric.of(round_.score(subject)), metric.scale) for round_ in rounds]
    return Line(printable(run.label), x, y, level)


def run_figures(run: RunReport, headline: Subject | None) -> Iterator[Named]:
    """Yield the figures of one run: labels, confusion, norms of updates, and its clients."""
    classes = [printable(c) for c in run.classes]
    label = printable(run.label)
    counts = {printable(c.client): c.label_counts for c in run.clients if c.label_counts}
    if counts:
        yield "labels", *_labels(counts, classes, label)
    shown: Diagram
    latest = run.latest(headline) if headline else None
    if latest and len(latest[1].confusion) == len(classes):
        shown = confusion_map(latest[1].confusion, classes)
        shaded = f"confusion matrix, round {latest[0].number}; shaded by shares of a row."
        yield "confusion", shown, f"{label}: {shaded}"
    if norms := _norms(run):
        shown = Curves(norms, x="round", y="norm of the update", whole_x=True, log_y=True)
        yield "norms", shown, f"{label}: how much each client's training changed.{_rest(norms)}"
    panels = _client_panels(run)
    if panels and len(run.clients) > FEW_CLIENTS:
        shown = Histograms(panels, "clients")
        yield "clients", shown, f"{label}: how many of {len(run.clients)} clients have which value."
    elif panels and len(run.clients) > 1:
        shown = Bars(panels, [printable(c.client) for c in run.clients])
        yield "clients", shown, f"{label}: the clients compared."


def _labels(
    counts: Mapping[str, Sequence[int]], classes: Sequence[str], label: str
) -> tuple[Diagram, str]:
    if len(counts) <= FEW_CLIENTS:
        return label_map(counts, classes), f"{label}: examples of each class per client."
    panels: Panels = {
        f"examples of {name}": [float(row[i]) for row in counts.values()]
        for i, name in enumerate(classes[:_CLASSES])
    }
    which = f"the first {_CLASSES} of {len(classes)} classes" if len(classes) > _CLASSES else ""
    about = f": {which}" if which else ""
    text = f"{label}: how many of {len(counts)} clients have how many examples of a class{about}."
    return Histograms(panels, "clients"), text


def _norms(run: RunReport) -> list[Line]:
    """Return a curve for each of few clients; of many, those that stand out, and all others."""
    lines = _norm_lines(run)
    if len(lines) <= _EACH:
        return list(lines.values())
    standing_out = marks_over(run.complete_rounds())
    named = [client for client in lines if client in standing_out][:_NAMED]
    others = [line for client, line in lines.items() if client not in named]
    return [*(lines[client] for client in named), _typical(others, bool(named))]


def _typical(lines: Sequence[Line], others: bool) -> Line:
    """Return the median of several curves by round, with a band from the 10 % to the 90 % point."""
    by_round: dict[float, list[float]] = {}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            by_round.setdefault(x, []).append(y or 0.0)
    rounds = sorted(by_round)
    points = [_deciles(by_round[number]) for number in rounds]
    return Line(
        f"median of {len(lines)} {'other ' if others else ''}clients",
        rounds,
        [points_[4] for points_ in points],
        lower=[points_[0] for points_ in points],
        upper=[points_[8] for points_ in points],
    )


def _deciles(values: Sequence[float]) -> list[float]:
    return quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9


def _rest(norms: Sequence[Line]) -> str:
    if not any(line.lower for line in norms):
        return ""
    if len(norms) == 1:
        return " The band holds 80 % of them."
    return " Those that stand out are named; the band holds 80 % of all others."


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
