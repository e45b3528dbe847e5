"""What each run needed to reach a target: rounds, communication and time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fedcli.errors import UsageError
from fedcli.reporting.clients import total
from fedcli.reporting.metric import Metric
from fedcli.reporting.report import Attainment, Method, Spread
from fedcli.reporting.run_report import RoundReport, RunReport
from fedcli.reporting.subject import Subject


def check_target(target: float, metric: Metric) -> None:
    """Raise ``UsageError`` for a target that no score can reach."""
    if 0 <= target <= 1 or (metric.lowest_is_best and 0 <= target < math.inf):
        return
    of = "0 or more" if metric.lowest_is_best else "0 to 1"
    hint = f"for {target:g} %: --target {target / 100:g}" if 1 < target <= 100 else None
    raise UsageError(f"--target: expected {of}, found {target:g}", hint=hint)


def attainment(
    run: RunReport, subject: Subject | None, metric: Metric, target: float
) -> Attainment:
    """Return what a run needed until its score of ``subject`` reached the target."""
    rounds = run.complete_rounds()
    scored = [
        (round_, value)
        for round_ in rounds
        if subject and (value := metric.of(round_.score(subject))) is not None
    ]
    best = max((value for _, value in scored), key=metric.gain, default=None)
    for round_, value in scored:
        if metric.reaches(value, target):
            until = [one for one in rounds if one.number <= round_.number]
            return Attainment(
                run.label, best, round_.number, value, round_.bytes_total, _seconds(until)
            )
    return Attainment(run.label, best)


def _seconds(rounds: Sequence[RoundReport]) -> float | None:
    """Return the time of rounds; None if that of a training or an aggregation is not known."""
    steps = [
        (round_.training_seconds_max, round_.aggregation_seconds)
        for round_ in rounds
        if round_.number > 0
    ]
    evaluations = [round_.evaluation_seconds or 0.0 for round_ in rounds]
    return total([*(seconds for step in steps for seconds in step), *evaluations])


class MethodAttainment(NamedTuple):
    """What the runs of a method needed, over those that reach the target."""

    runs: int
    reached: int
    evaluated: bool
    rounds: Spread | None
    bytes_total: Spread | None
    seconds: Spread | None
    best: Spread | None


def attainment_of_method(method: Method, attainments: Sequence[Attainment]) -> MethodAttainment:
    """Combine the attainments of the runs of a method, which are among ``attainments``."""
    own = [one for one in attainments if one.label in method.runs]
    reached = [one for one in own if one.round is not None]
    return MethodAttainment(
        runs=len(own),
        reached=len(reached),
        evaluated=any(one.best is not None for one in own),
        rounds=Spread.of(one.round for one in reached),
        bytes_total=Spread.of(one.bytes_total for one in reached),
        seconds=Spread.of(one.seconds for one in reached),
        best=Spread.of(one.best for one in own),
    )
