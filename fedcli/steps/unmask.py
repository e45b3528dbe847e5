"""Answer a list of survivors: the second phase of secure aggregation, at a member."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.masked import AnswerFile
from fedcli.masking.answered import answered_path, record_answer
from fedcli.masking.answers import answer_file, answer_list
from fedcli.masking.keys import read_masking_key
from fedcli.masking.pairwise import Agreement
from fedcli.masking.rounds import check_member_key, cohort_of, read_survivors
from fedcli.masking.unmasking import missing_members
from fedcli.run import Run
from fedcli.run.next_command import round_to_aggregate
from fedcli.security.records import record_digest
from fedcli.security.signatures import member_key


@dataclass(frozen=True)
class UnmaskResult:
    """A member's answer; ``send`` are the files that the coordinator needs from it.

    ``record`` is where the member keeps which list it has answered.
    """

    round: int
    client: str
    path: Path
    survivors: tuple[str, ...]
    missing: tuple[str, ...]
    record: Path
    already_done: bool
    send: tuple[Path, ...]


def unmask(
    run: Run, client: str, *, key: Path | None = None, round_number: int | None = None
) -> UnmaskResult:
    """Write a member's shares for the list of survivors that the coordinator signed.

    For a survivor they are of its own seed, for a missing member of the seeds of its pairs, and
    never both. The record of the list is on the disk before the shares are.

    Raises ``UsageError`` for another key than the member's, ``NotReadyError`` without a list,
    ``BadInputError`` for one that the coordinator did not sign and for changed shares,
    ``ConflictError`` for a second list of a round, and ``StorageError``.
    """
    round_ = round_to_aggregate(run, round_number)
    cohort = cohort_of(run, round_)
    (member,) = run.choose_clients([client])
    if member not in cohort.keys:
        raise UsageError(f"--id {member}: is not drawn for round {round_.number}")
    signing = member_key(run, member, key)
    assert signing is not None
    masking = read_masking_key(signing.path)
    check_member_key(run, member, masking)
    survivors = read_survivors(run, round_)
    agreement = Agreement.of(cohort, member, masking)
    given = answer_list(agreement, round_, survivors)
    record = answered_path(signing.path, cohort.where, member)
    record_answer(record, record_digest(survivors))
    made, path = answer_file(cohort, given, survivors, signing), round_.answer(member)
    done = _existing(path) == made
    if not done:
        made.write(path)
    return UnmaskResult(
        round=round_.number,
        client=member,
        path=path,
        survivors=tuple(survivors.survivors),
        missing=tuple(missing_members(cohort, survivors.survivors)),
        record=record,
        already_done=done,
        send=() if run.is_simulation else (path,),
    )


def _existing(path: Path) -> AnswerFile | None:
    try:
        return AnswerFile.read(path)
    except BadInputError:
        return None
