"""The rounds of one run by the score that it is judged by."""

from collections.abc import Iterable, Mapping

from fedcli.errors import BadInputError
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.manifest import Manifest
from fedcli.reporting.headline import headline
from fedcli.reporting.metric import Metric
from fedcli.reporting.model import RoundReport, Subject
from fedcli.run import Run
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


def headline_scores(run: Run) -> tuple[Subject | None, dict[int, Score]]:
    """Return what the run is judged by, and its score in each round that has one.

    Raises what ``read_scores`` does.
    """
    rounds = read_scores(run.complete_rounds())
    subject = headline([rounds])
    if subject is None:
        return None, {}
    scores = {round_.number: round_.score(subject) for round_ in rounds}
    return subject, {number: score for number, score in scores.items() if score is not None}


def best_round(values: Mapping[int, float], metric: Metric) -> int:
    """Return the round with the best value, the earliest of several."""
    return max(sorted(values), key=lambda number: metric.gain(values[number]))
