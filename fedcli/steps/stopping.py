"""Whether ``run`` ends early, by the scores in ``evaluation.json`` of its rounds.

The decision uses nothing else, so a run that is resumed decides as one that was never stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.errors import UsageError
from fedcli.plan.stopping import Stopping
from fedcli.reporting.metric import Metric, metric_named
from fedcli.reporting.run_report import RoundReport
from fedcli.reporting.scored_rounds import check_applies, read_scores
from fedcli.reporting.subject import Subject
from fedcli.reporting.target import check_target
from fedcli.run import Run


@dataclass(frozen=True)
class Stop:
    """The round after which a run ends early, and why."""

    round: int
    reason: str


class EarlyStopping:
    """The early end of a run; ``asked`` says whether there may be one."""

    def __init__(self, run: Run, stopping: Stopping, *, evaluate: bool) -> None:
        """Raise ``UsageError`` for options that cannot be followed."""
        self.asked = stopping.typed is not None
        self._run, self._stopping = run, stopping
        self._metric = _checked_metric(run, stopping, evaluate=evaluate)
        self._values: dict[int, float] = {}

    def unscored(self, rounds: int) -> list[int]:
        """Return the complete rounds that ``evaluate`` can give the score that is asked for."""
        complete = [r for r in self._run.complete_rounds() if r.number <= rounds]
        return [r.number for r in read_scores(complete) if self._is_unscored(r)]

    def _is_unscored(self, round_: RoundReport) -> bool:
        score = round_.score(Subject())
        return score is None or (self._metric.of(score) is None and not score.is_whole)

    def decide(self, rounds: int) -> Stop | None:
        """Return where the run ends before round ``rounds``; None if it goes on."""
        if not self.asked:
            return None
        new = [
            round_
            for round_ in self._run.complete_rounds()
            if round_.number <= rounds and round_.number not in self._values
        ]
        self._values |= {one.number: self._value(one) for one in read_scores(new)}
        return first_stop(self._values, self._stopping, self._metric)

    def _value(self, round_: RoundReport) -> float:
        value = self._metric.of(round_.score(Subject()))
        if value is None:
            raise UsageError(
                f"--metric {self._metric.name}: the scores of round {round_.number} have none:"
                " it needs test examples of more than one class"
            )
        return value


def first_stop(values: Mapping[int, float], stopping: Stopping, metric: Metric) -> Stop | None:
    """Return the first round whose score ends a run, by the scores of all rounds."""
    best: int | None = None
    for number, value in sorted(values.items()):
        if stopping.target is not None and metric.reaches(value, stopping.target):
            reached = f"reaches the target {stopping.target:g}"
            return Stop(number, f"the {metric.title} {value:.4f} of round {number} {reached}")
        if best is None or metric.gain(value) > metric.gain(values[best]):
            best = number
        elif stopping.stop_after is not None and number - best >= stopping.stop_after:
            since = "1 round" if number - best == 1 else f"{number - best} rounds"
            than = f"{values[best]:.4f} of round {best}"
            return Stop(number, f"no better {metric.title} for {since} than the {than}")
    return None


def _checked_metric(run: Run, stopping: Stopping, *, evaluate: bool) -> Metric:
    metric = metric_named(stopping.metric or "accuracy")
    typed = stopping.typed
    if typed is None:
        if stopping.metric is not None:
            raise UsageError("--metric: goes with --stop-after or --target, and neither is given")
        return metric
    if stopping.target is not None:
        check_target(stopping.target, metric)
    if not evaluate:
        raise UsageError(f"{typed}: needs the scores of every round, so not --no-evaluate")
    if not run.has_test_data:
        raise UsageError(f"{typed}: needs scores, and this run holds no test set")
    check_applies(run, metric)
    return metric
