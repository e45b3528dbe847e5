"""The rounds of one run by the score that it is judged by."""

from collections.abc import Iterable
from dataclasses import dataclass

from fedcli.errors import BadInputError, NotReadyError, UsageError
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.manifest import Manifest
from fedcli.reporting.headline import headline
from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.run_report import RoundReport
from fedcli.reporting.subject import Subject
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command
from fedcli.run.round import Round


def current_scores(scores: Iterable[Score], manifest: Manifest | None) -> tuple[Score, ...]:
    """Return the scores of the models that a round holds now, as far as its manifest tells."""
    if manifest is None:
        return tuple(scores)
    current: dict[tuple[str, str | None], str | None]
    current = {("update", entry.client): entry.sha256 for entry in manifest.accepted}
    current["global", None] = manifest.global_model
    return tuple(
        score
        for score in scores
        if score.sha256 is None or current.get((score.model, score.client)) in (None, score.sha256)
    )


def read_scores(rounds: Iterable[Round]) -> list[RoundReport]:
    """Return rounds with nothing but their scores.

    Raises ``BadInputError`` that names each ``evaluation.json`` that cannot be used.
    """
    found, errors = [], []
    for round_ in rounds:
        try:
            evaluation = Evaluation.read(round_.evaluation)
        except BadInputError as error:
            errors.append(error)
            continue
        scores = () if evaluation is None else evaluation.results
        current = current_scores(scores, Manifest.try_read(round_.manifest))
        found.append(RoundReport(round_.number, complete=True, scores=current))
    if errors:
        message = "; ".join(error.message for error in errors)
        hint = "remove what is broken, and evaluate these rounds again"
        raise errors[0].amended(hint=hint, message=message)
    return found


def check_applies(run: Run, metric: Metric) -> None:
    """Raise ``UsageError`` for a metric that scores of this run never have."""
    classes = len(run.info.dataset.classes)
    if metric.of_two and classes != 2:
        others = ", ".join(name for name, other in METRICS.items() if not other.of_two)
        raise UsageError(
            f"--metric {metric.name}: is of two classes, and this run has {classes}",
            hint=f"of several classes there are: {others}",
        )


@dataclass(frozen=True)
class Best:
    """The round with the best score of a run, the earliest of several.

    ``subject`` is what was scored; ``value`` is that of ``score``, and of ``rounds`` rounds the
    best one. ``unscored`` lists complete rounds without a score to compare.
    """

    round: int
    metric: Metric
    value: float
    subject: Subject
    score: Score
    rounds: int
    unscored: tuple[int, ...]


def best_round(run: Run, metric: Metric) -> Best:
    """Find the best round by the scores that the run is judged by.

    Raises ``UsageError`` for a metric that the run cannot have, ``NotReadyError`` if no round has
    it, and what ``read_scores`` does.
    """
    check_applies(run, metric)
    rounds = read_scores(run.complete_rounds())
    subject = headline([rounds])
    scores = {r.number: r.score(subject) for r in rounds} if subject is not None else {}
    values = {n: value for n, score in scores.items() if (value := metric.of(score)) is not None}
    if subject is None or not values:
        raise NotReadyError(
            f"no round of this run has been scored by its {metric.title}",
            hint=evaluate_command(run, "evaluate --round all"),
            path=run.root,
        )
    best = max(sorted(values), key=lambda number: metric.gain(values[number]))
    score = scores[best]
    assert score is not None
    unscored = tuple(r.number for r in rounds if r.number not in values)
    return Best(best, metric, values[best], subject, score, len(values), unscored)
