"""Verify a run: every file, and what files say about each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import NotReadyError
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.run.spending import PrivacyStatus
from fedcli.system import rare_collection
from fedcli.verification.clients import check_client, clients_of
from fedcli.verification.copies import holds_several
from fedcli.verification.data import check_data
from fedcli.verification.deltas import check_delta
from fedcli.verification.findings import FileCount, Finding, Problem, Section
from fedcli.verification.ledgers import check_ledgers, check_noisy_rounds, spent_so_far
from fedcli.verification.masked import check_masked_round
from fedcli.verification.others import check_partials, files_in, report_foreign
from fedcli.verification.replay_sandbox import UserCode
from fedcli.verification.rounds import (
    check_manifest,
    check_model,
    check_server_state,
    read_manifests,
)
from fedcli.verification.scores import check_evaluation
from fedcli.verification.signed import check_signatures
from fedcli.verification.survey import Survey


@dataclass(frozen=True)
class VerifyResult:
    """The result of ``verify``; ``sound`` means that nothing is changed, lost, or differs.

    A run is sound only as far as it goes if it is not ``whole``: if files could not be checked
    because they, or others that name them, are not in this copy. ``privacy`` is what the run has
    spent by its files; None if nothing is private, or ε cannot be computed.
    """

    run: Path
    id: str
    rounds: tuple[int, ...]
    parts: tuple[FileCount, ...]
    findings: tuple[Finding, ...]
    sound: bool
    whole: bool
    privacy: PrivacyStatus | None


def verify(
    root: Path,
    *,
    round_number: int | None = None,
    replay: UserCode | None = None,
    whole: bool | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Read every file of the run at ``root`` once, and compare it with what others say about it.

    ``round_number`` restricts it to the files of one round, including its base model. Missing files
    are reported, but only changed or lost ones make the run unsound. With ``whole``, all files that
    a coordinator needs have to be here; by default they have to unless this is a client's copy,
    which holds files of one client at most. ``replay`` also aggregates the
    models and trains the clients again as recorded, and compares the bytes.

    Raises ``RunFormatError`` without a run, ``NotReadyError`` for a missing round, ``StorageError``
    and ``OutOfMemoryError``.
    """
    progress = progress or Silence()
    run, id_of_content = Run.open_unverified(root)
    survey = Survey(run, progress, whole=holds_several(run) if whole is None else whole)
    files = list(files_in(root))
    progress.start("reading", len(files))
    with rare_collection():
        _check_run_file(survey, id_of_content)
        rounds = _check_rounds(survey, round_number)
        check_ledgers(survey)
        check_noisy_rounds(survey)
        if round_number is None:
            check_data(survey)
            check_partials(survey, files)
            report_foreign(survey, files)
        survey.judge()
    replayed: tuple[FileCount, ...] = ()
    if replay is not None:
        from fedcli.verification.replay import replay as replay_rounds

        replayed = replay_rounds(survey, rounds, replay)
    return _result(survey, rounds, replayed, spent_so_far(survey))


def _check_run_file(survey: Survey, id_of_content: str) -> None:
    path = survey.run.root / "run.json"
    survey.count(Section.RUN, path)
    if survey.run.id != id_of_content:
        message = "was changed: its id does not match its content"
        survey.add(Problem.CHANGED, path, message, survey.run.id, id_of_content)


def _check_rounds(survey: Survey, wanted: int | None) -> list[Round]:
    rounds = survey.run.rounds()
    complete = survey.run.complete_rounds()
    if wanted is None:
        _report_gaps(survey, rounds, complete)
    elif wanted not in {round_.number for round_ in rounds}:
        raise NotReadyError(f"--round: there is no round {wanted} in {survey.run.root}")
    else:
        rounds = [survey.run.round(wanted)]
        complete = [round_ for round_ in complete if round_.number == wanted]
    read_manifests(survey, complete)
    if wanted:
        check_model(survey, survey.run.round(wanted - 1))
        _check_late(survey, wanted)
    for round_ in rounds:
        _check_round(survey, round_, complete=round_ in complete)
    return rounds


def _check_late(survey: Survey, number: int) -> None:
    """Check the late updates in the model of this round."""
    manifest = survey.manifests.get(number)
    for entry in () if manifest is None else manifest.accepted:
        if entry.round != number:
            check_client(survey, survey.run.round(entry.round), entry.client)


def _report_gaps(survey: Survey, rounds: Sequence[Round], complete: Sequence[Round]) -> None:
    """Report missing global models of rounds before the latest."""
    expected = 0
    if not complete:
        survey.count(Section.MODELS, survey.run.round(0).global_model)
        survey.add(Problem.LOST, survey.run.round(0).global_model, "is missing")
    for round_ in complete:
        if round_.number > expected:
            path = survey.run.round(expected).global_model
            more = round_.number - expected - 1
            problem, message = survey.needed("")
            message += f", and those of the {more} rounds after it" if more > 1 else ""
            message += ", and that of the round after it" if more == 1 else ""
            survey.count(Section.MODELS, path)
            survey.add(problem, path, message)
        expected = round_.number + 1


def _check_round(survey: Survey, round_: Round, *, complete: bool) -> None:
    if complete:
        check_model(survey, round_)
        check_delta(survey, round_)
    clients = clients_of(survey, round_)
    for client in clients:
        check_client(survey, round_, client)
    if complete and round_.number > 0:
        if round_.number in survey.manifests:
            check_manifest(survey, round_)
        check_server_state(survey, round_)
    elif not complete:
        _report_unfinished(survey, round_)
    check_evaluation(survey, round_)
    check_signatures(survey, round_, clients)
    check_masked_round(survey, round_, clients)


def _report_unfinished(survey: Survey, round_: Round) -> None:
    """Report files that an interrupted aggregation left in an incomplete round."""
    for section, path in (
        (Section.MANIFESTS, round_.manifest),
        (Section.SERVER_STATES, round_.server_state),
    ):
        if path.exists():
            survey.count(section, path)
            survey.add(Problem.NOTE, path, "is left from an interrupted aggregation")
    if round_.delta.exists():
        survey.count(Section.DELTAS, round_.delta)
        message = "its model is not rebuilt yet; train-client does it"
        survey.add(Problem.NOTE, round_.delta, message)


def _result(
    survey: Survey,
    rounds: Sequence[Round],
    replayed: tuple[FileCount, ...],
    privacy: PrivacyStatus | None,
) -> VerifyResult:
    findings = tuple(sorted(survey.findings, key=lambda f: not f.wrong))
    return VerifyResult(
        run=survey.run.root,
        id=survey.run.id,
        rounds=tuple(round_.number for round_ in rounds),
        parts=(*_parts(survey, findings), *replayed),
        findings=findings,
        sound=not any(finding.wrong for finding in findings),
        whole=all(finding.problem != Problem.UNCHECKED for finding in findings),
        privacy=privacy,
    )


def _parts(survey: Survey, findings: Sequence[Finding]) -> tuple[FileCount, ...]:
    absent = (Problem.MISSING, Problem.LOST)
    missing = {f.file for f in findings if f.problem in absent}
    unchecked = {f.file for f in findings if f.problem == Problem.UNCHECKED}
    missing |= {name for name in unchecked if not os.path.lexists(survey.run.root / name)}
    wrong = {f.file for f in findings if f.problem == Problem.CHANGED} - missing
    parts = []
    for section in Section:
        names = {survey.name(path) for path, of in survey.counted.items() if of == section}
        gone, changed = len(names & missing), len(names & wrong)
        if names:
            sound = len(names - missing - wrong - unchecked)
            parts.append(FileCount(section.value, len(names), sound, gone, changed))
    return tuple(parts)
