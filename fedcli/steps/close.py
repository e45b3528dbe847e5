"""Close a masked round: say, signed, whose updates are in its sum."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcli.aggregation.base_model import read_base
from fedcli.aggregation.masked_sum import misfits
from fedcli.errors import ConflictError, NotReadyError, OvertakenError, UpdateError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Absence
from fedcli.formats.masked import MaskedFiles, SurvivorList, SurvivorsFile
from fedcli.formats.metadata import Kind
from fedcli.masking.answered import closed_path
from fedcli.masking.cohort import Cohort
from fedcli.masking.delivered import check_delivery
from fedcli.masking.rounds import LIST_KIND, MASKED, cohort_of, read_survivors
from fedcli.masking.spending import check_limit
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.next_command import round_to_aggregate, train_command
from fedcli.run.round import Round
from fedcli.security.records import sign_record
from fedcli.security.signatures import coordinator_key


@dataclass(frozen=True)
class CloseResult:
    """A closed round: whose updates are in the sum, and why others' are not.

    ``needed`` is how many of the ``members`` must answer with ``fedcli unmask``.
    """

    round: int
    path: Path
    survivors: tuple[str, ...]
    missing: tuple[Absence, ...]
    members: tuple[str, ...]
    needed: int
    already_done: bool


def close_round(
    run: Run,
    *,
    round_number: int | None = None,
    exclude: Sequence[str] = (),
    key: Path | None = None,
    progress: Progress | None = None,
) -> CloseResult:
    """Write the signed list of the masked updates that have arrived and can be used.

    A list that exists stays: nobody signs or answers two of them. The list is kept beside the
    ``key``, the coordinator's, before it is in the run, where others could remove it; it is put
    back from there.

    Raises ``UsageError`` in a run whose updates are not masked, ``NotReadyError`` for fewer than t
    updates, ``ConflictError`` for a complete round, ``BudgetError`` for one that would pass the
    limit of the run, and ``StorageError``.
    """
    round_ = round_to_aggregate(run, round_number)
    cohort = cohort_of(run, round_)
    signing = coordinator_key(run, key)
    assert signing is not None  # a run with secure aggregation has a coordinator
    if round_.survivors.exists():
        return _result(run, round_, cohort, (), already_done=True)
    if round_.global_model.exists():
        raise ConflictError("exists: the round is complete", path=round_.global_model)
    kept = closed_path(signing.path, cohort.where)
    if (signed := SurvivorsFile.read(kept)) is not None:
        return _publish(run, round_, cohort, signed, already_done=True)
    excluded = run.choose_clients(exclude, "--exclude") if exclude else []
    found, absent = _deliveries(run, round_, cohort, excluded, progress or Silence())
    for error in misfits(run, round_, tuple(found)):
        del found[error.client or ""]
        absent.append(Absence(error.client or "", error.reason, round_.number))
    if len(found) < cohort.threshold:
        raise NotReadyError(
            f"round {round_.number}: {len(found)} masked updates can be used, expected at least"
            f" {cohort.threshold} of {len(cohort.members)}; the sum of fewer is not shown",
            hint=train_command(run, [one.client for one in absent], round_.number),
        )
    with Checkpoint(round_.update(next(iter(found))), Kind.UPDATE) as update:
        check_limit(run, round_, update.layout[MASKED].shape[0])
    listed = SurvivorList(LIST_KIND, run.id, round_.number, cohort.where.attempt, found)
    signed = SurvivorsFile(*sign_record(listed, signing))
    signed.write_first(kept)
    return _publish(run, round_, cohort, signed, tuple(absent))


def _publish(
    run: Run,
    round_: Round,
    cohort: Cohort,
    signed: SurvivorsFile,
    absent: tuple[Absence, ...] = (),
    *,
    already_done: bool = False,
) -> CloseResult:
    """Write the list into the run, which is the copy of the one beside the key."""
    with suppress(OvertakenError):
        signed.write_first(round_.survivors)
    return _result(run, round_, cohort, absent, already_done=already_done)


def _deliveries(
    run: Run, round_: Round, cohort: Cohort, excluded: Sequence[str], progress: Progress
) -> tuple[dict[str, MaskedFiles], list[Absence]]:
    """Return the masked updates that can be used, and why others cannot."""
    base = read_base(run, round_).sha256
    found, absent = {}, []
    for client in cohort.members:
        if client in excluded:
            absent.append(Absence(client, "excluded"))
        elif not round_.update(client).exists():
            absent.append(Absence(client, "has not delivered"))
        else:
            try:
                found[client] = check_delivery(run, round_, cohort, client, base)
            except UpdateError as error:
                progress.say(error.message)
                absent.append(Absence(client, error.reason, round_.number))
    return found, absent


def _result(
    run: Run, round_: Round, cohort: Cohort, absent: tuple[Absence, ...], *, already_done: bool
) -> CloseResult:
    survivors = tuple(read_survivors(run, round_).survivors)
    listed = absent or tuple(
        Absence(client, "not in the list") for client in cohort.members if client not in survivors
    )
    return CloseResult(
        round_.number,
        round_.survivors,
        survivors,
        listed,
        cohort.members,
        cohort.threshold,
        already_done,
    )
