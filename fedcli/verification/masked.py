"""Checks of a masked round: shares, the list of survivors, and the answers to it."""

from collections.abc import Sequence

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.masking.answers import read_answer
from fedcli.masking.delivered import check_masked
from fedcli.masking.rounds import cohort_of, read_shares, read_survivors
from fedcli.run.round import Round
from fedcli.security.signatures import signature_fault
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Claim, Survey


def check_masked_update(survey: Survey, round_: Round, client: str, found: Checkpoint) -> None:
    """Raise ``ValueError`` for an update that is not masked as the run says."""
    cohort = cohort_of(survey.run, round_)
    if client not in cohort.keys:
        raise ValueError(f"client {client} is not drawn for this round")
    check_masked(survey.run, round_, cohort, client, found)


def check_masked_round(survey: Survey, round_: Round, clients: Sequence[str]) -> None:
    """Check what secure aggregation adds to the files of a round."""
    if survey.run.info.plan.secagg is None or round_.number == 0:
        return
    for client in clients:
        _check_shares(survey, round_, client)
    if round_.survivors.exists():
        _check_list(survey, round_)


def _check_shares(survey: Survey, round_: Round, client: str) -> None:
    path, read = round_.shares(client), survey.read.get(round_.update(client))
    if not path.exists() and read is None:
        return
    survey.count(Section.MASKS, path)
    if read is None:
        return
    try:
        read_shares(cohort_of(survey.run, round_), round_, client, read.sha256)
        fault = signature_fault(survey.run, round_, client, read.sha256, digest(path))
    except NotReadyError:
        problem, message = survey.deleted("was deleted; it opens the sum")
        survey.add(problem, path, message)
    except BadInputError as error:
        survey.add(Problem.CHANGED, path, error.about(path))
    else:
        if fault is not None:
            survey.add(Problem.CHANGED, path, fault)


def _check_list(survey: Survey, round_: Round) -> None:
    """Check the list, note what it says about updates, and check the answers to it."""
    run, path = survey.run, round_.survivors
    cohort = cohort_of(run, round_)
    survey.count(Section.MASKS, path)
    try:
        survivors = read_survivors(run, round_)
    except BadInputError as error:
        survey.add(Problem.CHANGED, path, error.about(path))
        return
    for client, files in survivors.survivors.items():
        survey.claim(round_.update(client), Claim(path, files.update))
    for member in cohort.members:
        answer = round_.answer(member)
        if not answer.exists():
            continue
        survey.count(Section.MASKS, answer)
        try:
            read_answer(run, answer, cohort, member, survivors)
        except BadInputError as error:
            survey.add(Problem.CHANGED, answer, error.about(answer))
