"""Checks of ``evaluation.json``: whether the scored models exist."""

import hashlib

from fedcli.formats.evaluation import Evaluation, Score
from fedcli.run.info import is_client_id
from fedcli.run.round import Round
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Survey


def check_evaluation(survey: Survey, round_: Round) -> None:
    """Report scores of models that no longer exist, as notes."""
    path = round_.evaluation
    evaluation = survey.record(Section.EVALUATIONS, path, Evaluation, None)
    for score in evaluation.results if evaluation is not None else ():
        whose = f" of client {score.client}" if score.client is not None else ""
        if not _is_known(survey, round_, score):
            message = f"has scores of a {score.model} model{whose} that no longer exists"
            survey.add(Problem.NOTE, path, message, found=score.sha256)


def _is_known(survey: Survey, round_: Round, score: Score) -> bool:
    """Return whether the model of a score exists, or cannot be identified any more."""
    path, client = round_.global_model, score.client
    if score.sha256 is None or (client is not None and not is_client_id(client)):
        return score.sha256 is None
    model = survey.read.get(path)
    if score.model == "personal" and client is not None:
        states = survey.states.get(client, {}).items()
        own = [sha256 for number, sha256 in states if number <= round_.number]
        if not own or model is None:
            return True
        return score.sha256 in {_digest_of_two(model.sha256, state) for state in own}
    if score.model == "update" and client is not None:
        model = survey.read.get(round_.update(client))
    return model is None or model.sha256 == score.sha256


def _digest_of_two(model: str, state: str) -> str:
    return hashlib.sha256((model + state).encode()).hexdigest()
