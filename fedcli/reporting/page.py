"""The report as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from fedcli.reporting import plots
from fedcli.reporting.cells import (
    Table,
    visible,
)
from fedcli.reporting.model import Note, Report, RunReport, Subject
from fedcli.reporting.plots import Line
from fedcli.reporting.standouts import marks_of
from fedcli.reporting.tables import (
    classes_table,
    evaluations_table,
    f1_table,
    heterogeneity_table,
    run_tables,
    shown_rounds,
    summary_table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
$body
<footer>
<p>Accuracies are those measured, without smoothing; “best” is the best of all evaluated rounds,
chosen by the same examples that it is measured on. Communication is counted from the sizes of
files: up, the accepted updates and partial means; down, the round’s base model once for each of
them. 1 MB is 10<sup>6</sup> bytes. A centralised run, a federation of one client, counts 0.</p>
</footer>
</body>
</html>
""")
_NAMED = 8  # clients in the legend of a plot
_NORMS = "how much each client's training changed; those that stand out are named."
_TEXT = ("method", "run", "evaluation", "client", "class", "device", "stands out", "cut by")


def to_html(report: Report) -> str:
    """Return the page. Raises ``MissingDependencyError`` without matplotlib."""
    names = ", ".join(visible(run.label) for run in report.runs)
    body = [
        "<h1>Federated learning report</h1>",
        *(_facts(run) for run in report.runs),
        "<h2>Accuracy and communication</h2>",
        _table(summary_table(report), kind="summary"),
        _notes(report.notes),
        _grid(_comparison_plots(report)),
    ]
    tables = [classes_table(report.runs, report.headline), evaluations_table(report.runs)]
    if len(report.runs) > 1:
        tables.insert(1, f1_table(report.runs, report.headline))
    tables.append(heterogeneity_table(report.runs))
    body += [f"<h2>{escape(t.title)}</h2>{_table(t)}" for t in tables if t.rows]
    for index, run in enumerate(report.runs):
        body.append(_run(run, report.headline, f"run{index}"))
    style = files("fedcli.reporting").joinpath("page.css").read_text(encoding="utf-8")
    return _PAGE.substitute(
        title=escape(f"fedcli report: {names}"), style=style, body="\n".join(filter(None, body))
    )


def _facts(run: RunReport) -> str:
    rounds = [round_ for round_ in run.complete_rounds() if round_.number > 0]
    rule = next((r.rule for r in reversed(rounds) if r.rule), None)
    facts = [run.dataset, run.model, run.scheme, rule]
    facts += [f"clients: {len(run.clients)}", f"rounds: {len(rounds)}"]
    text = " · ".join(fact for fact in facts if fact)
    return f'<p class="facts"><strong>{_text(run.label)}</strong>: {_text(text)}</p>'


def _text(text: str) -> str:
    return escape(visible(text))


def _notes(notes: Sequence[Note]) -> str:
    if not notes:
        return ""
    lines = []
    for note in notes:
        command = f": <code>{_text(note.command)}</code>" if note.command else ""
        lines.append(f"<li>{_text(note.text)}{command}</li>")
    return f'<ul class="notes">{"".join(lines)}</ul>'


def _table(table: Table, *, kind: str = "") -> str:
    kinds = ["bars" if c == "labels" else "text" if c in _TEXT else "" for c in table.columns]
    attributes = [f' class="{kind_}"' if kind_ else "" for kind_ in kinds]
    head = "".join(
        f'<th scope="col"{a}>{escape(c)}</th>'
        for c, a in zip(table.columns, attributes, strict=True)
    )
    rows = "\n".join(_row(row, attributes) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    label = escape(table.title or "Summary")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def _row(row: Sequence[str], attributes: Sequence[str]) -> str:
    first = f'<th scope="row"{attributes[0]}>{escape(row[0])}</th>'
    rest = (f"<td{a}>{escape(c)}</td>" for c, a in zip(row[1:], attributes[1:], strict=True))
    return f"<tr>{first}{''.join(rest)}</tr>"


def _grid(figures: Iterator[str]) -> str:
    found = list(figures)
    return f'<div class="plots">{"".join(found)}</div>' if found else ""


def _figure(picture: "Figure", name: str, caption: str) -> str:
    drawing = plots.svg(picture, name, visible(caption))
    return f"<figure>{drawing}<figcaption>{_text(caption)}</figcaption></figure>"


def _comparison_plots(report: Report) -> Iterator[str]:
    headline = report.headline
    if headline is None:
        return
    subject, name = headline, headline.name
    accuracy = [_line(run, subject, "accuracy") for run in report.runs]
    picture = plots.curves(accuracy, x="round", y="accuracy (%)", whole_x=True)
    yield _figure(picture, "accuracy", f"Accuracy over rounds ({name}), as measured.")
    if any(summary.bytes_total for summary in report.summary):
        exchanged = [_line(run, subject, "accuracy", over_bytes=True) for run in report.runs]
        picture = plots.curves(exchanged, x="communication (MB)", y="accuracy (%)")
        level = any(run.centralised for run in report.runs)
        flat = " A level line is the final accuracy of a centralised run." if level else ""
        yield _figure(picture, "bytes", f"Accuracy over what had been exchanged by then.{flat}")
    loss = [_line(run, subject, "loss") for run in report.runs]
    if any(y is not None for line in loss for y in line.y):
        picture = plots.curves(loss, x="round", y="loss", whole_x=True)
        yield _figure(picture, "loss", f"Loss over rounds ({name}).")


def _line(run: RunReport, subject: Subject, key: str, *, over_bytes: bool = False) -> Line:
    rounds = shown_rounds(run, subject)
    if over_bytes:
        rounds = [round_ for round_ in rounds if round_.bytes_total is not None]
    x = [(r.bytes_total or 0) / 1e6 if over_bytes else float(r.number) for r in rounds]
    y = [getattr(round_.score(subject), key, None) for round_ in rounds]
    scale = 100 if key == "accuracy" else 1
    # what costs nothing has no curve over its cost: it is a level to compare with
    level = over_bytes and run.centralised
    return Line(visible(run.label), x, [v if v is None else scale * v for v in y], level)


def _run(run: RunReport, headline: Subject | None, name: str) -> str:
    parts = [
        f"<h2>{_text(run.label)}</h2>",
        _notes(run.notes),
        _grid(_run_plots(run, headline, name)),
    ]
    for table in run_tables(run, headline):
        if table.rows:
            parts.append(f"<h3>{escape(table.title)}</h3>{_table(table)}")
    return "\n".join(filter(None, parts))


def _run_plots(run: RunReport, headline: Subject | None, name: str) -> Iterator[str]:
    classes = [visible(c) for c in run.classes]
    counts = {visible(c.client): c.label_counts for c in run.clients if c.label_counts is not None}
    if counts:
        picture = plots.label_distribution(counts, classes)
        yield _figure(picture, f"{name}-labels", f"{run.label}: examples of each class per client.")
    latest = run.latest(headline) if headline else None
    if latest and len(latest[1].confusion) == len(classes):
        picture = plots.confusion_matrix(latest[1].confusion, classes)
        caption = (
            f"{run.label}: confusion matrix, round {latest[0].number}; shaded by shares of a row."
        )
        yield _figure(picture, f"{name}-confusion", caption)
    norms = _norm_lines(run)
    if norms:
        standing_out = {client for round_ in run.complete_rounds() for client in marks_of(round_)}
        named = [line for client, line in norms.items() if client in standing_out][:_NAMED]
        others = [line for line in norms.values() if line not in named]
        picture = plots.curves(
            named, x="round", y="norm of the update", whole_x=True, log_y=True, others=others
        )
        yield _figure(picture, f"{name}-norms", f"{run.label}: {_NORMS}")
    panels = _client_panels(run)
    if panels and len(run.clients) > 1:
        picture = plots.client_bars(panels, [visible(c.client) for c in run.clients])
        yield _figure(picture, f"{name}-clients", f"{run.label}: the clients compared.")


def _norm_lines(run: RunReport) -> dict[str, Line]:
    """Return one curve a client, where several rounds compared several updates."""
    norms: dict[str, dict[int, float]] = {}
    for round_ in run.complete_rounds():
        for client in round_.clients:
            if client.norm:
                norms.setdefault(client.client, {})[round_.number] = client.norm
    rounds = {number for values in norms.values() for number in values}
    if len(norms) < 2 or len(rounds) < 2:
        return {}
    return {
        client: Line(f"client {visible(client)}", list(values), list(values.values()))
        for client, values in norms.items()
    }


def _client_panels(run: RunReport) -> dict[str, list[float | None]]:
    def shares(values: Sequence[float | None]) -> list[float | None]:
        return [value if value is None else 100 * value for value in values]

    panels: dict[str, list[float | None]] = {
        "examples": [client.examples for client in run.clients],
        "training time, all rounds (s)": [client.seconds for client in run.clients],
        "local accuracy after the last epoch (%)": shares([c.local_accuracy for c in run.clients]),
        "own model on the test data (%)": shares([c.own_accuracy for c in run.clients]),
        "global model on its held-out examples (%)": shares(
            [c.validation_accuracy for c in run.clients]
        ),
        "global model on its test examples (%)": shares([c.test_accuracy for c in run.clients]),
        "personal model on its examples (%)": shares([c.personal_accuracy for c in run.clients]),
    }
    return {name: values for name, values in panels.items() if any(v is not None for v in values)}
