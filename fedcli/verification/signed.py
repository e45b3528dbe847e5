"""Checks of signatures, in a run that has members or a coordinator."""

from collections.abc import Sequence
from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.run.round import Round
from fedcli.security.signatures import check_server_state, global_fault, signature_fault
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Survey


def check_signatures(survey: Survey, round_: Round, clients: Sequence[str]) -> None:
    """Check the signatures of a round. Raises ``MissingDependencyError``."""
    run = survey.run
    if run.info.members:
        for client in clients:
            path = round_.update(client)
            sha256 = _sha256_of(survey, round_, client)
            if sha256 is not None and not survey.is_rejected(path):
                fault = signature_fault(run, round_, client, sha256)
                _note(survey, round_.signature(client), path, fault)
    model = survey.read.get(round_.global_model)
    if run.info.coordinator is not None and model is not None:
        fault = global_fault(run, round_, model.sha256) or _state_fault(survey, round_)
        _note(survey, round_.global_signature, round_.global_model, fault)


def _sha256_of(survey: Survey, round_: Round, client: str) -> str | None:
    """Return the SHA-256 of an update; for a deleted one, that in the manifests.

    Returns None if it is unknown, or the signature was deleted too.
    """
    path = round_.update(client)
    if path in survey.read:
        return survey.read[path].sha256
    if not round_.signature(client).exists():
        return None
    accepted = (entry for manifest in survey.manifests.values() for entry in manifest.accepted)
    place = client, round_.number
    return next((one.sha256 for one in accepted if (one.client, one.round) == place), None)


def _state_fault(survey: Survey, round_: Round) -> str | None:
    """Return what is wrong with the server state, whose SHA-256 is signed with the model."""
    path, manifest = round_.server_state, survey.manifests.get(round_.number)
    if manifest is None:
        return None
    read = survey.read.get(path)
    sha256 = manifest.server_state if read is None else read.sha256
    try:
        check_server_state(survey.run, round_, sha256)
    except BadInputError as error:
        return error.about(path)
    return None


def _note(survey: Survey, path: Path, signed: Path, fault: str | None) -> None:
    survey.count(Section.SIGNATURES, path)
    if fault is not None:
        problem = Problem.CHANGED if path.exists() else Problem.LOST
        survey.add(problem, path, f"{survey.name(signed)} {fault}")
