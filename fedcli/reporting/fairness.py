"""How evenly the global model serves the clients, on their own test or validation data."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedcli.reporting.metric import Metric
from fedcli.reporting.report import Fairness, Method, Spread
from fedcli.reporting.run_report import RoundReport, RunReport

_DATA = ("client-test", "validation")

Floats = NDArray[np.float64]


def fairness(run: RunReport, metric: Metric) -> Fairness | None:
    """Return the spread in the latest round in which the global model was scored on clients' data.

    Test data go before validation data. None if no client has the metric there.
    """
    for data in _DATA:
        for round_ in reversed(run.complete_rounds()):
            values = dict(_of_clients(round_, data, metric))
            if values:
                return _spread(run, data, round_.number, values, metric)
    return None


def _of_clients(
    round_: RoundReport, data: str, metric: Metric
) -> Iterable[tuple[str, float | None]]:
    for score in round_.scores:
        if score.model == "global" and score.data == data and not score.classes:
            yield score.data_client or "", metric.of(score)


def _spread(
    run: RunReport, data: str, number: int, values: dict[str, float | None], metric: Metric
) -> Fairness | None:
    known = [(value, client) for client, value in values.items() if value is not None]
    if not known:
        return None
    ranked = sorted(known, key=lambda pair: metric.gain(pair[0]))
    figures = np.array([value for value, _ in ranked])
    tenth = -(-len(figures) // 10)
    return Fairness(
        label=run.label,
        data=data,
        round=number,
        clients=len(figures),
        mean=_finite(np.mean, figures),
        std=_finite(np.std, figures),
        worst_tenth=_finite(np.mean, figures[:tenth]),
        worst=ranked[0][0],
        worst_client=ranked[0][1],
        without=len(values) - len(figures),
    )


def _finite(statistic: Callable[[Floats], np.floating[Any]], values: Floats) -> float | None:
    """Return a statistic; None if it overflows, as files may claim any loss."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = float(statistic(values))
    return found if math.isfinite(found) else None


class MethodFairness(NamedTuple):
    """The spread over clients in the runs of a method."""

    data: str
    runs: int
    mean: Spread | None
    std: Spread | None
    worst_tenth: Spread | None
    worst: Spread | None


def fairness_of_method(method: Method, fairness: Sequence[Fairness]) -> MethodFairness | None:
    """Combine the spreads of the runs of a method; None if none of ``fairness`` is of them."""
    own = [one for one in fairness if one.label in method.runs]
    if not own:
        return None
    return MethodFairness(
        data=", ".join(dict.fromkeys(one.data for one in own)),
        runs=len(own),
        mean=Spread.of(one.mean for one in own),
        std=Spread.of(one.std for one in own),
        worst_tenth=Spread.of(one.worst_tenth for one in own),
        worst=Spread.of(one.worst for one in own),
    )
