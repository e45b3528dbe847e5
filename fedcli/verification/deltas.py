"""Checks of deltas: each leads from one global model to the next."""

from pathlib import Path
from tempfile import TemporaryDirectory

from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.delta import rebuild
from fedcli.formats.metadata import Kind
from fedcli.run.round import Round
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Claim, Survey, expect_place


def check_delta(survey: Survey, round_: Round) -> None:
    """Check the delta of a complete round, and that the round's model comes out of it."""
    manifest, path = survey.manifests.get(round_.number), round_.delta
    named = None if manifest is None else manifest.delta
    if named is None and not path.exists():
        return
    if manifest is not None and named is None:
        survey.count(Section.DELTAS, path)
        message = f"belongs to no model: {survey.name(round_.manifest)} names none"
        survey.add(Problem.NOTE, path, message)
        return

    def check(found: Checkpoint) -> None:
        expect_place(survey.run, found.metadata, round_, None)

    missing = survey.deleted("was deleted; clients need the whole model instead")
    found = survey.checkpoint(Section.DELTAS, path, Kind.DELTA, check, missing)
    if named is not None:
        survey.claim(path, Claim(round_.manifest, named))
    if found is None:
        return
    if found.result is not None:
        survey.claim(round_.global_model, Claim(path, found.result))
    if fault := None if round_.number == 0 else _fault(survey, round_):
        survey.add(Problem.CHANGED, path, fault)


def _fault(survey: Survey, round_: Round) -> str | None:
    """Return why no model comes out of a delta; None if it does, or its base is not here."""
    before = survey.run.round(round_.number - 1).global_model
    if not before.exists():
        return None
    with TemporaryDirectory() as folder:
        try:
            with Checkpoint(round_.delta, Kind.DELTA) as delta, Checkpoint(before) as base:
                rebuild(delta, base, Path(folder) / before.name)
        except FedcliError as error:
            return error.message
    return None
