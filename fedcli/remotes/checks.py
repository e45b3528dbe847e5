"""Whether files are what their place in a run says, before they are sent or placed.

Each check takes the run whose directory holds the files: the run itself, or a copy of it with what
has just arrived.
"""

from fedcli.errors import BadInputError, NotReadyError, UpdateError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.telemetry import Telemetry
from fedcli.masking.answers import read_answer
from fedcli.masking.delivered import check_delivery
from fedcli.masking.rounds import cohort_of, read_shares, read_survivors
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model
from fedcli.security.signatures import signature_fault, signed_server_state


def check_update(run: Run, number: int, client: str, base: str | None, most: int | None) -> None:
    """Check an update: its run, round and client, its base model, its signature and SHA-256.

    ``base`` is the SHA-256 of the base model, if that is here; ``most`` the bytes that it may have.
    Raises ``UpdateError``, and ``MissingDependencyError`` for a signature that nothing can check.
    """
    round_ = run.round(number)
    if run.info.plan.secagg is not None:
        check_delivery(run, round_, cohort_of(run, round_), client, base or "")
        return
    path = round_.update(client)
    try:
        with Checkpoint(path, Kind.UPDATE, most=most) as update:
            _check_place(run, round_, update.metadata, client)
            _expect("base model", base or update.metadata.base, update.metadata.base)
            sha256 = update.read_through()
        _check_telemetry(round_, client, sha256)
        if fault := signature_fault(run, round_, client, sha256):
            raise ValueError(fault)
    except BadInputError as error:
        raise UpdateError(error.about(path), path=path, client=client) from None
    except ValueError as error:
        raise UpdateError(str(error), path=path, client=client) from None


def _check_place(run: Run, round_: Round, found: Metadata, client: str | None) -> None:
    _expect("run", run.id, found.run)
    _expect("round", round_.number, found.round)
    _expect("client", client, found.client)


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise ValueError(f"belongs to {what} {found}, expected {expected}")


def _check_telemetry(round_: Round, client: str, sha256: str) -> None:
    said = Telemetry.try_read(round_.telemetry(client))
    if said is not None and said.sha256 != sha256:
        name = round_.telemetry(client).name
        raise ValueError(f"has SHA-256 {sha256}, and {name} names {said.sha256}")


def check_model(run: Run, number: int, *, delta: bool, state: bool, base: str | None) -> None:
    """Check a global model, or the ``delta`` that leads to it: its run and round, and its SHA-256.

    The latter is what the coordinator signed or, in a run without one, what the manifest names; and
    the SHA-256 of the model before it has to be ``base``, if that is known. With ``state`` the
    server state has to be the one that belongs to the model. Raises ``BadInputError``,
    ``NotReadyError`` and ``MissingDependencyError``.
    """
    round_ = run.round(number)
    path, kind = (round_.delta, Kind.DELTA) if delta else (round_.global_model, Kind.GLOBAL)
    with Checkpoint(path, kind) as model:
        found, sha256 = model.metadata, model.read_through()
    if base is not None and found.base != base:
        raise BadInputError(
            f"was made from a model with SHA-256 {found.base}, but that of round {number - 1} here"
            f" has {base}",
            hint="ask the coordinator which is right",
            path=path,
        )
    result = (found.result or "") if delta else sha256
    check_global_model(run, round_, found, result)
    if state:
        _check_state(run, round_, result)


def _check_state(run: Run, round_: Round, model: str) -> None:
    """Check a server state against the signature or, in a run without one, the manifest."""
    manifest = Manifest.read(round_.manifest)
    if manifest is None:
        raise NotReadyError("no such file", path=round_.manifest)
    expected = manifest.server_state
    if run.info.coordinator is not None:
        expected = signed_server_state(run, round_, model)
    found = digest(round_.server_state) if round_.server_state.exists() else None
    if found != expected:
        raise BadInputError(
            f"has SHA-256 {found}, but {expected} belongs to the global model of its round",
            hint="restore a good copy",
            path=round_.server_state,
        )


def check_manifest(run: Run, number: int) -> None:
    """Check that a manifest can be read, and is of its round. Raises ``BadInputError``."""
    path = run.round(number).manifest
    found = Manifest.read(path)
    if found is None or found.round != number:
        raise BadInputError(f"expected the manifest of round {number}", path=path)


def check_list(run: Run, number: int) -> None:
    """Check a signed list of survivors, and the shares that it names.

    Raises ``BadInputError`` and ``NotReadyError``.
    """
    round_ = run.round(number)
    cohort = cohort_of(run, round_)
    for client, files in read_survivors(run, round_).survivors.items():
        read_shares(cohort, round_, client, files.update, files.shares)


def check_answer(run: Run, number: int, member: str) -> None:
    """Check a member's answer to the list of survivors. Raises ``BadInputError``."""
    round_ = run.round(number)
    path, cohort = round_.answer(member), cohort_of(run, round_)
    if member not in cohort.members:
        raise BadInputError("is of no member of this round", path=path, client=member)
    read_answer(run, path, cohort, member, read_survivors(run, round_))
