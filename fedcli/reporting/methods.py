"""Methods: runs that differ in nothing but their seeds, with mean and standard deviation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from fedcli.formats.evaluation import Score
from fedcli.reporting.diagrams import Line
from fedcli.reporting.grouping import Group, grouped
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.report import Method, MethodRound, Report, Spread
from fedcli.reporting.run_report import RoundReport, RunReport
from fedcli.reporting.subject import Subject
from fedcli.reporting.tables import shown_rounds
from fedcli.text import printable

Runs = Sequence[RunReport]
Over = Literal["number", "bytes_total", "epsilon", "epsilon_clients"]  # of a round
Pick = Callable[[Metric, Sequence[Score]], float | None]


def methods_of(
    runs: Runs, subject: Subject | None, group_by: Sequence[str] = ()
) -> tuple[Method, ...]:
    """Group runs into methods, in the order of their first runs.

    ``group_by`` names the options that set methods apart, by default all but the seeds; ``run``
    keeps every run by itself. Raises ``UsageError`` for an option that no run has.
    """
    return tuple(_method(group, subject) for group in grouped(runs, group_by))


def _method(group: Group, subject: Subject | None) -> Method:
    histories = [_scores(run, subject) for run in group.runs]
    last = [number for run in group.runs if (number := _last_round(run, subject)) is not None]
    return Method(
        label=group.label,
        runs=tuple(run.label for run in group.runs),
        differs=group.differs,
        centralised=all(run.centralised for run in group.runs),
        final=_spreads([scores[-1:] for scores in histories], _last),
        best=_spreads(histories, _best),
        last_round=(min(last), max(last)) if last else None,
        bytes_total=Spread.of(_last_bytes(run, subject) for run in group.runs),
        rounds=tuple(_rounds(group.runs, subject)),
    )


def _scores(run: RunReport, subject: Subject | None) -> list[Score]:
    """Return the scores of a run's complete rounds, in order."""
    found = (round_.score(subject) for round_ in run.complete_rounds()) if subject else ()
    return [score for score in found if score]


def _spreads(histories: Sequence[Sequence[Score]], pick: Pick) -> dict[str, Spread]:
    found = {m.name: Spread.of(pick(m, scores) for scores in histories) for m in METRICS.values()}
    return {name: one for name, one in found.items() if one is not None}


def _last(metric: Metric, scores: Sequence[Score]) -> float | None:
    return metric.of(scores[-1]) if scores else None


def _best(metric: Metric, scores: Sequence[Score]) -> float | None:
    known = [value for score in scores if (value := metric.of(score)) is not None]
    return max(known, key=metric.gain, default=None)


def _last_round(run: RunReport, subject: Subject | None) -> int | None:
    complete = run.complete_rounds()
    scored = [round_ for round_ in complete if subject and round_.score(subject)]
    found = (scored or list(complete))[-1:]
    return found[0].number if found else None


def _last_bytes(run: RunReport, subject: Subject | None) -> int | None:
    number = _last_round(run, subject)
    return next((r.bytes_total for r in run.rounds if r.number == number), None)


def _rounds(runs: Runs, subject: Subject | None) -> Iterator[MethodRound]:
    by_run = [{r.number: r for r in shown_rounds(run, subject)} for run in runs]
    for number in sorted({number for rounds in by_run for number in rounds}):
        found = [rounds[number] for rounds in by_run if number in rounds]
        scores = [s for r in found if subject and (s := r.score(subject))]
        yield MethodRound(
            number=number,
            scores=_spreads([[score] for score in scores], _last),
            bytes_total=Spread.of(round_.bytes_total for round_ in found),
            epsilon=Spread.of(round_.epsilon for round_ in found),
            epsilon_clients=Spread.of(round_.epsilon_clients for round_ in found),
        )


def method_lines(report: Report, metric: Metric, over: Over = "number") -> list[Line]:
    """Return the curve of every method: the mean of its runs, and a band of one deviation.

    Values are multiplied by the metric's scale. x is the round, or the mean of what had been
    exchanged or spent by then; a method of which that is not known, or a centralised one, which
    exchanges nothing, is a level there.
    """
    return [_line(method, metric, over) for method in report.methods]


def _line(method: Method, metric: Metric, over: Over) -> Line:
    level = is_level(method.rounds, over, centralised=method.centralised)
    rounds = [r for r in method.rounds if level or getattr(r, over) is not None]
    spreads = [round_.scores.get(metric.name) for round_ in rounds]
    has_band = any(one and one.std is not None for one in spreads)
    return Line(
        label=printable(method.label),
        x=[0.0 if level else place(round_, over) for round_ in rounds],
        y=[None if one is None else metric.scale * one.mean for one in spreads],
        level=level,
        lower=[_scaled(one.lower if one else None, metric) for one in spreads] if has_band else (),
        upper=[_scaled(one.upper if one else None, metric) for one in spreads] if has_band else (),
    )


def is_level(rounds: Sequence[MethodRound | RoundReport], over: Over, *, centralised: bool) -> bool:
    """Return whether nothing of this was exchanged or spent: there is no curve over it."""
    if over == "bytes_total":
        return centralised
    return over != "number" and all(getattr(round_, over) is None for round_ in rounds)


def place(round_: MethodRound | RoundReport, over: Over) -> float:
    """Return the x of a round: its number, what was exchanged by then in MB, or ε."""
    found = getattr(round_, over)
    amount = float(found.mean if isinstance(found, Spread) else found or 0)
    return amount / 1e6 if over == "bytes_total" else amount


def _scaled(value: float | None, metric: Metric) -> float | None:
    return None if value is None else metric.scale * value
