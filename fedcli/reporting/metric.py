"""The metrics that runs can be judged by, and what a model without knowledge scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fedcli.errors import UsageError
from fedcli.formats.evaluation import Score
from fedcli.reporting.layout import Column, percent, three_decimals
from fedcli.spelling import nearest, respelled


@dataclass(frozen=True)
class Metric:
    """A score by its field in ``Score``; plots multiply it by ``scale``.

    ``of_two`` says that only two classes have it.
    """

    name: str
    title: str
    heading: str
    show: Callable[[float], str] = percent
    scale: int = 100
    lowest_is_best: bool = False
    of_two: bool = False

    @property
    def axis(self) -> str:
        """The title with its unit."""
        return f"{self.title} (%)" if self.scale == 100 else self.title

    @property
    def column(self) -> Column[Score]:
        """The column of this metric in a table of scores."""
        by_round = f"{self.axis[:1].upper()}{self.axis[1:]} by round"
        return Column(self.heading, self.name, self.show, self.name, side_by_side=by_round)

    def of(self, score: Score | None) -> float | None:
        """Return the value of a score, None if unknown."""
        return None if score is None else getattr(score, self.name)

    def gain(self, value: float) -> float:
        """Return a number that is larger for a better value."""
        return -value if self.lowest_is_best else value

    def reaches(self, value: float, target: float) -> bool:
        """Return whether a value is as good as a target."""
        return self.gain(value) >= self.gain(target)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "acc. (%)"),
        Metric("balanced_accuracy", "balanced accuracy", "bal. (%)"),
        Metric("macro_f1", "macro F1", "F1", three_decimals, scale=1),
        Metric("auc", "AUC", "AUC", three_decimals, scale=1),
        Metric("sensitivity", "sensitivity", "sens. (%)", of_two=True),
        Metric("specificity", "specificity", "spec. (%)", of_two=True),
        Metric("loss", "loss", "loss", three_decimals, scale=1, lowest_is_best=True),
    )
}


def metric_named(text: str) -> Metric:
    """Return a metric by its name, with hyphens or underscores. Raises ``UsageError``."""
    name = respelled(text.strip(), METRICS)
    if name in METRICS:
        return METRICS[name]
    close = nearest(text, METRICS)
    raise UsageError(
        f"--metric: expected one of {', '.join(METRICS)}, found {text!r}",
        hint=f"did you mean --metric {close}?" if close else None,
    )


def chance(metric: Metric, score: Score) -> float | None:
    """Return what a model scores that sees nothing of the examples; None if that depends on it.

    For the accuracy it always says the largest class; for the loss all classes are as likely.
    """
    counts = [one.examples for one in score.per_class if one.examples]
    if not counts:
        return None
    known = {
        "accuracy": max(counts) / sum(counts),
        "balanced_accuracy": 1 / len(counts),
        "auc": 0.5 if len(counts) > 1 else None,
        "loss": math.log(len(score.per_class)),
    }
    return known.get(metric.name)
