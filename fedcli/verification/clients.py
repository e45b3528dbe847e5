"""Checks of clients' files in a round: updates, telemetry, and client states."""

from dataclasses import replace

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.encodings import decode
from fedcli.aggregation.updates import check_tensors
from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Metadata, check_counted
from fedcli.formats.telemetry import Telemetry
from fedcli.formats.tensor_stats import pieces
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run.client_state import belong_together, slots_kept
from fedcli.run.info import client_order, is_client_id
from fedcli.run.round import Round
from fedcli.verification.findings import Problem, Section
from fedcli.verification.masked import check_masked_update
from fedcli.verification.rounds import check_slots
from fedcli.verification.survey import Claim, Survey, expect_place


def clients_of(survey: Survey, round_: Round) -> list[str]:
    """Return the clients with files in a round, or whose update of it went into a model."""
    kept = (path.stem for path in (round_.path / "client_state").glob("*.safetensors"))
    accepted = survey.accepted[round_.number]
    return client_order([*round_.delivered(), *accepted, *filter(is_client_id, kept)])


def check_client(survey: Survey, round_: Round, client: str) -> None:
    """Check a client's files in a round."""
    update = _check_update(survey, round_, client)
    if update is not None and update.training.privacy is not None:
        survey.private.setdefault(client, []).append(update)
    if update is not None and not survey.is_rejected(round_.update(client)):
        _claim_origin(survey, round_, client, update)
    _check_telemetry(survey, round_, client)
    _check_state(survey, round_, client, update)


def _check_update(survey: Survey, round_: Round, client: str) -> Metadata | None:
    path, run = round_.update(client), survey.run
    if client not in survey.accepted[round_.number] and not path.exists():
        return None  # there is only a state

    def check(found: Checkpoint) -> None:
        expect_place(run, found.metadata, round_, client)
        if run.info.plan.secagg is not None:
            check_masked_update(survey, round_, client, found)
            return
        check_counted(found.metadata)
        base = survey.holding(found.metadata)
        if base is not None:
            _check_values(survey, round_, found, base)

    missing = survey.deleted("was deleted; a model was made from it")
    most = run.largest_update(round_.number)
    found = survey.checkpoint(Section.UPDATES, path, Kind.UPDATE, check, missing, most=most)
    if survey.is_rejected(path) and path.exists():
        survey.add(Problem.NOTE, path, "is in no model")
    return found


def _check_values(survey: Survey, round_: Round, found: Checkpoint, base: Base) -> None:
    """Check the tensors of an update; those of an encoded one against its own base model."""
    if found.metadata.encoding is None or not isinstance(found, UpdateTensors):
        check_tensors(base, base.layout, found)
        return
    before = survey.run.round(round_.number - 1).global_model
    try:
        model = Checkpoint(before, Kind.GLOBAL)
    except (NotReadyError, BadInputError):
        message = f"is encoded, and cannot be decoded without {survey.name(before)}"
        survey.add(Problem.UNCHECKED, found.path, message)
        return
    with model:
        sha256 = survey.read[before].sha256 if before in survey.read else model.digest()
        decode(found, replace(base, round=round_, sha256=sha256), model)
        check_tensors(base, base.layout, found)
        for name in found.layout:
            for _ in pieces(found, name):
                pass


def _claim_origin(survey: Survey, round_: Round, client: str, found: Metadata) -> None:
    path, before = round_.update(client), survey.run.round(round_.number - 1)
    if found.base is not None:
        survey.claim(before.global_model, Claim(path, found.base, firm=False))
    if found.training.server_state is not None:
        survey.claim(before.server_state, Claim(path, found.training.server_state, firm=False))
    for sha256 in found.training.started_from:
        _find_state(survey, round_, client, sha256)


def _find_state(survey: Survey, round_: Round, client: str, sha256: str) -> None:
    """Check that the client state that an update names as its start exists."""
    known = survey.states.get(client, {})
    if sha256 in known.values() or not known:
        return  # clients keep their states in folders of their own
    newest = max(known)
    for between in survey.run.rounds():
        if newest < between.number < round_.number and client in clients_of(survey, between):
            return  # the state may be of this round, and missing
    path = survey.run.round(newest).client_state(client)
    message = f"does not have the SHA-256 that {survey.name(round_.update(client))} started from"
    survey.add(Problem.CHANGED, path, message, sha256, known[newest])


def _check_telemetry(survey: Survey, round_: Round, client: str) -> None:
    path, update = round_.telemetry(client), round_.update(client)
    telemetry = survey.record(Section.TELEMETRY, path, Telemetry, None, broken=Problem.NOTE)
    if telemetry is not None and not survey.is_rejected(update):
        size, examples = telemetry.bytes, telemetry.num_examples
        survey.claim(update, Claim(path, telemetry.sha256, size, examples))


def _check_state(survey: Survey, round_: Round, client: str, update: Metadata | None) -> None:
    path, run = round_.client_state(client), survey.run
    keeps = update is not None and bool(slots_kept(update.training))
    if not keeps and not path.exists():
        return

    def check(found: Checkpoint) -> None:
        expect_place(run, found.metadata, round_, client)
        check_slots(survey, found.layout)
        if update is not None and not belong_together(found.metadata, update):
            raise ValueError(
                f"does not go with {survey.name(round_.update(client))}: they were made from"
                " different inputs"
            )

    missing = (Problem.MISSING, "is not in the run: deleted, or in a folder of the client's own")
    found = survey.checkpoint(Section.CLIENT_STATES, path, Kind.CLIENT_STATE, check, missing)
    if found is None:
        return
    survey.states.setdefault(client, {})[round_.number] = survey.read[path].sha256
    if found.base is not None:
        before = run.round(round_.number - 1)
        survey.claim(before.global_model, Claim(path, found.base, firm=False))
