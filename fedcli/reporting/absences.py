"""Notes on updates that did not count: rejected ones, and late ones."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from fedcli.formats.manifest import Absence
from fedcli.reporting.run_report import Note, RoundReport
from fedcli.reporting.words import named, rounds_named

NOTES = 10

Absences = Iterable[tuple[int, Absence]]


def absence_notes(rounds: Sequence[RoundReport]) -> list[Note]:
    """Return one note for all clients that missed the same rounds for the same reason."""
    rejected = [(r.number, absence) for r in rounds for absence in r.rejected]
    late = [(a.round or r.number, a) for r in rounds for a in r.late]
    notes = [
        *_notes(rejected, lambda who, when, why: f"{who}: rejected in {when}: {why}"),
        *_notes(late, lambda who, when, why: f"{who}: late with the update of {when}: {why}"),
    ]
    if len(notes) > NOTES:
        more = len(notes) - NOTES
        notes[NOTES:] = [Note(f"{more} more reasons are in --json")]
    return notes


def _notes(absences: Absences, sentence: Callable[[str, str, str], str]) -> list[Note]:
    by_client = defaultdict[str, list[tuple[int, str]]](list)
    for number, absence in absences:
        reason = absence.reason.replace(f"round {number} ", "that round ")
        by_client[absence.client].append((number, reason))
    alike = defaultdict[tuple[str, str], list[str]](list)
    for client, entries in by_client.items():
        reasons = list(dict.fromkeys(reason for _, reason in entries))
        why = reasons[0] if len(reasons) == 1 else f"{reasons[-1]} (the last of several reasons)"
        alike[rounds_named(number for number, _ in entries), why].append(client)
    return [
        Note(sentence(named("client", clients), when, why))
        for (when, why), clients in alike.items()
    ]
