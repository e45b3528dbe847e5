"""Members' answers to a list of survivors, as files: written, signed, and read by anybody."""

from pathlib import Path

from fedcli.errors import BadInputError
from fedcli.formats.masked import AnswerFile, MemberAnswer, SurvivorList, from_base64, to_base64
from fedcli.masking.cohort import Cohort
from fedcli.masking.pairwise import Agreement
from fedcli.masking.rounds import ANSWER_KIND, read_shares
from fedcli.masking.shamir import decode_share, encode_share
from fedcli.masking.shares import unseal
from fedcli.masking.unmasking import Answer, answer, missing_members
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.keys import SigningKey
from fedcli.security.records import check_record, record_digest, sign_record


def answer_list(agreement: Agreement, round_: Round, survivors: SurvivorList) -> Answer:
    """Open the shares of all survivors, and return a member's answer.

    Raises what ``read_shares`` and ``unseal`` do.
    """
    opened = {}
    for i, files in survivors.survivors.items():
        sealed = read_shares(agreement.cohort, round_, i, files.update, files.shares)
        opened[i] = unseal(agreement, i, files.update, sealed.sealed[agreement.member])
    return answer(agreement.cohort, agreement.member, opened)


def answer_file(
    cohort: Cohort, given: Answer, survivors: SurvivorList, key: SigningKey
) -> AnswerFile:
    """Return the signed file of an answer."""
    where = cohort.where
    record = MemberAnswer(
        ANSWER_KIND,
        where.run,
        where.round,
        where.attempt,
        given.member,
        record_digest(survivors),
        {i: _text(share) for i, share in given.own.items()},
        {i: {j: _text(one) for j, one in pairs.items()} for i, pairs in given.pairs.items()},
    )
    return AnswerFile(*sign_record(record, key))


def read_answers(
    run: Run, round_: Round, cohort: Cohort, survivors: SurvivorList
) -> tuple[list[Answer], list[BadInputError]]:
    """Return the answers to a list, in client order, and why others cannot be used."""
    found, faults = [], []
    for member in cohort.members:
        try:
            given = read_answer(run, round_.answer(member), cohort, member, survivors)
        except BadInputError as error:
            faults.append(error)
            continue
        if given is not None:
            found.append(given)
    return found, faults


def read_answer(
    run: Run, path: Path, cohort: Cohort, member: str, survivors: SurvivorList
) -> Answer | None:
    """Return a member's answer in a file; None without one.

    Raises ``BadInputError`` for one that the member did not sign, or not for this list.
    """
    file = AnswerFile.read(path)
    if file is None:
        return None
    where, signed = cohort.where, file.signed
    expected = {
        "kind": ANSWER_KIND,
        "run": where.run,
        "round": where.round,
        "attempt": where.attempt,
        "client": member,
        "survivors": record_digest(survivors),
    }
    try:
        check_record(file, run.info.members[member], f"client {member}", **expected)
        _check_asked(cohort, survivors, signed)
        own = {i: _share(text) for i, text in signed.own.items()}
        pairs = {i: {j: _share(t) for j, t in one.items()} for i, one in signed.pairs.items()}
    except BadInputError as error:
        hint = f"ask client {member} to repeat fedcli unmask --id {member}"
        raise BadInputError(error.reason, hint=hint, path=path, client=member) from None
    return Answer(member, own, pairs)


def _check_asked(cohort: Cohort, survivors: SurvivorList, signed: MemberAnswer) -> None:
    """Raise ``BadInputError`` unless an answer has the shares that were asked for, and no other."""
    names = set(survivors.survivors)
    missing = set(missing_members(cohort, names))
    pairs = {i: set(one) for i, one in signed.pairs.items()}
    if set(signed.own) != names or pairs != dict.fromkeys(names, missing):
        raise BadInputError("gives other shares than the list of survivors asks for")


def _text(share: int) -> str:
    return to_base64(encode_share(share))


def _share(text: str) -> int:
    try:
        return decode_share(from_base64(text))
    except ValueError as error:
        raise BadInputError(str(error)) from None
