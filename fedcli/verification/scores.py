"""``evaluation.json``: whether its scores are of models that are there."""

import hashlib

from fedcli.formats.evaluation import Evaluation, Score
from fedcli.run.info import is_client_id
from fedcli.run.round import Round
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Survey


def check_evaluation(survey: Survey, round_: Round) -> None:
    """Look for the models that were scored; scores of a model since replaced are no fault."""
    path = round_.evaluation
    evaluation = survey.record(Section.EVALUATIONS, path, Evaluation, None)
    for score in evaluation.results if evaluation is not None else ():
        whose = f" of client {score.client}" if score.client is not None else ""
        if not _is_known(survey, round_, score):
            message = f"has scores of a {score.model} model{whose} that is not there any more"
            survey.add(Problem.NOTE, path, message, found=score.sha256)


def _is_known(survey: Survey, round_: Round, score: Score) -> bool:
    """Whether the model of a score is there, or was deleted and cannot be told from others."""
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
