"""Combine the updates of a round into the next global model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedcli.aggregation.commit import write_round
from fedcli.aggregation.existing_round import (
    Inputs,
    already_made,
    check_invitation,
    check_unchanged,
    names_all,
)
from fedcli.aggregation.masked_request import masked_request
from fedcli.aggregation.quarantine import all_bad, bad_headers, set_aside
from fedcli.aggregation.request import Request, read_request
from fedcli.aggregation.round_privacy import RoundPrivacy
from fedcli.errors import (
    BadInputError,
    ConflictError,
    FedcliError,
    NotReadyError,
    OvertakenError,
    StorageError,
    UsageError,
)
from fedcli.formats.manifest import (
    Absence,
    BoundedClaim,
    Contribution,
    Manifest,
    PartialContribution,
)
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.exchange import files_of_round
from fedcli.run.participation import Invitation, participation
from fedcli.run.quorum import Quorum, wait_for
from fedcli.run.round import Round
from fedcli.run.used_updates import disagreements
from fedcli.security.signatures import coordinator_key
from fedcli.system import rare_collection


@dataclass(frozen=True)
class AggregateResult:
    """The result of ``aggregate``; ``path`` and ``sha256`` are of the new global model.

    ``send`` lists the files that clients need for the next round, in the order in which they are to
    arrive; it is empty if all clients have their data in the run.
    """

    round: int
    path: Path
    sha256: str
    strategy: str
    reduce: str
    server_optimizer: str
    weighting: str
    options: dict[str, Any]
    clients: tuple[Contribution, ...]
    partials: tuple[PartialContribution, ...]
    missing: tuple[Absence, ...]
    late: tuple[Absence, ...]
    rejected: tuple[Absence, ...]
    unlisted: int
    bounded: tuple[BoundedClaim, ...]
    remarks: tuple[str, ...]
    bytes_read: int
    seconds: float
    already_done: bool
    send: tuple[Path, ...]


@rare_collection()
def aggregate(
    run: Run,
    *,
    round_number: int | None = None,
    options: Mapping[str, Any] | None = None,
    members: Sequence[str] = (),
    min_clients: int | None = None,
    wait: float = 0,
    exclude: Sequence[str] = (),
    diagnostics: bool = True,
    strict: bool = False,
    key: Path | None = None,
    noise_key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> AggregateResult:
    """Aggregate the updates of a round by a rule, and write the global model.

    Without ``round_number``, it is the open round or, if nobody has delivered for that, the last
    complete one, which was then made before. ``options`` override the run's plan, by their names in
    ``AggregatePlan``. ``members`` restricts the round to these clients, and names files of partial
    means. Every participant must have delivered, or at least ``min_clients`` of them; ``wait`` is
    how many seconds to wait for missing ones. A bad update is skipped, with the reason in the
    manifest, if the others are enough; it ends the step with ``strict``, or if the run has a list
    of clients and neither ``min_clients`` nor a buffer is set. ``key`` is the coordinator's, in a
    run whose global models are signed; the noise that protects clients comes from ``noise_key``, to
    which ``run.json`` commits. Sums run in float64, in client order, and are rounded once.
    The defaults are FedAvg (McMahan et al. 2017).

    Raises ``NotReadyError`` when updates are missing or too few for the rule, ``UpdateError`` when
    one does not fit, ``ConflictError`` when the round is complete and was made from other inputs,
    ``UsageError`` for unusable options, and ``StorageError``. After an error, the round's directory
    is as before.
    """
    progress = progress or Silence()
    signing = coordinator_key(run, key)
    if run.info.plan.secagg is None:
        request = read_request(run, round_number, options, members, exclude)
    else:
        _check_masked(members, exclude, min_clients)
        request = masked_request(run, round_number, options, force, progress)
        round_number, min_clients = request.invitation.round.number, run.info.plan.secagg.threshold
    repeated = round_number is None and not wait and _is_repeated(request)
    if repeated:
        request = request.of_round(run.latest_round())
    quorum = Quorum.of(request.invitation, request.rule, min_clients)
    privacy = RoundPrivacy.of(run, request.invitation.plan, noise_key)
    inputs = replace(_gather(request, quorum, wait, progress), privacy=privacy)
    if manifest := _existing(
        request, inputs, repeated=repeated, diagnostics=diagnostics, force=force
    ):
        return _result(run, inputs.round, manifest, already_done=True)
    _check_quorum(inputs, quorum)
    write = partial(
        write_round, diagnostics=diagnostics, progress=progress, signing=signing, force=force
    )
    return _write_of_the_good(inputs, quorum, write, progress, strict=strict)


def _write_of_the_good(
    inputs: Inputs,
    quorum: Quorum,
    write: Callable[[Inputs], Manifest],
    progress: Progress,
    *,
    strict: bool,
) -> AggregateResult:
    """Write the round, without updates that turn out bad as they are read, if enough are left."""
    run, errors = inputs.run, list[FedcliError]()
    while True:
        try:
            made = write(replace(inputs, rule=inputs.prepared_rule()))
            return _result(run, inputs.round, made)
        except OvertakenError:
            return _result(run, inputs.round, check_unchanged(inputs), already_done=True)
        except (BadInputError, StorageError) as error:
            errors.append(error)
            left = None if strict else set_aside(inputs, quorum, error, progress)
            if left is None:
                raise all_bad(inputs, errors) from None
            inputs = left


def _check_masked(members: Sequence[str], exclude: Sequence[str], min_clients: int | None) -> None:
    """Raise ``UsageError`` for options that choose among updates of which only the sum is known."""
    for option, given in (
        ("MEMBER", bool(members)),
        ("--exclude", bool(exclude)),
        ("--min-clients", min_clients is not None),
    ):
        if given:
            raise UsageError(
                f"{option}: updates of this run are masked, and only the sum of those that"
                " survivors.json lists can be opened",
                hint="fedcli aggregate --close --exclude ID writes a list without some",
            )


def _check_quorum(inputs: Inputs, quorum: Quorum) -> None:
    """Raise ``NotReadyError`` for too few updates, which names those that cannot be used too."""
    try:
        quorum.check(inputs.taking_part)
    except NotReadyError as error:
        found = bad_headers(inputs)
        if found is None:
            raise
        hint = "; ".join(filter(None, (error.hint, found.hint)))
        raise error.amended(message=f"{error.message}; {found.message}", hint=hint) from None


def _is_repeated(request: Request) -> bool:
    """Return whether a request without a round can only mean the last complete one.

    It does if nobody has delivered for the open round, and no partial mean is of that round.
    """
    now = request.invitation.round
    if now.number == 1 or participation(request.invitation).accepted:
        return False
    return all(number < now.number for number in request.rounds_of_partials())


def _existing(
    request: Request, inputs: Inputs, *, repeated: bool, diagnostics: bool, force: bool
) -> Manifest | None:
    """Return the manifest of a complete round that the request would reproduce, else None.

    Raises ``ConflictError`` if it was made otherwise.
    """
    if not repeated:
        return already_made(inputs, diagnostics=diagnostics, force=force)
    try:
        if not force:
            check_invitation(inputs, request.invitation)
        return already_made(inputs, diagnostics=diagnostics, force=force, repeated=True)
    except ConflictError as error:
        number = inputs.round.number
        hint = f"{error.hint}; round {number + 1} has no update yet"
        message = f"round {number} is complete: {error.message}"
        raise error.amended(hint=hint, message=message) from None


def _gather(request: Request, quorum: Quorum, wait: float, progress: Progress) -> Inputs:
    """Wait for the updates, unless the round is complete."""
    invitation, rule = request.invitation, request.rule
    if invitation.round.global_model.exists():
        wait = 0
    else:  # raise UsageError at once if waiting cannot help
        with suppress(NotReadyError):
            quorum.check(participation(invitation))
        with suppress(NotReadyError):
            rule.reducer.prepare(len(invitation.run.info.clients), rule.options)
    for fault in disagreements(invitation.run, *_window(invitation)):
        progress.say(fault)
    seen = wait_for(lambda: participation(invitation), quorum.met, wait, progress)
    limits, downlink = invitation.plan.limits, invitation.plan.downlink
    files = request.partials
    inputs = Inputs(invitation.run, invitation.round, rule, seen, files, limits, downlink)
    return replace(inputs, names_all=names_all(invitation.round))


def _window(invitation: Invitation) -> tuple[int, int]:
    """Return the first round whose late updates may count, and the round that they count in."""
    now = invitation.round.number
    return now - (invitation.max_staleness or 0), now


def _result(
    run: Run, round_: Round, manifest: Manifest, already_done: bool = False
) -> AggregateResult:
    read = sum(entry.bytes or 0 for entry in manifest.accepted)
    read += sum(entry.bytes for entry in manifest.partials)
    return AggregateResult(
        round=round_.number,
        path=round_.global_model,
        sha256=manifest.global_model,
        strategy=manifest.strategy,
        reduce=manifest.reduce,
        server_optimizer=manifest.server_optimizer,
        weighting=manifest.weighting,
        options=manifest.options,
        clients=manifest.accepted,
        partials=manifest.partials,
        missing=manifest.missing,
        late=manifest.late,
        rejected=manifest.rejected,
        unlisted=manifest.unlisted,
        bounded=manifest.bounded,
        remarks=manifest.remarks,
        bytes_read=read,
        seconds=manifest.seconds,
        already_done=already_done,
        send=_files_to_send(run, round_, manifest.server_optimizer),
    )


def _files_to_send(run: Run, round_: Round, server_optimizer: str) -> tuple[Path, ...]:
    return () if run.is_simulation else files_of_round(run, round_, server_optimizer)
