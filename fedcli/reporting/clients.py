"""Each client over the whole run, as its rounds describe it."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from fedcli.formats.manifest import Absence
from fedcli.formats.partition import PartitionFile
from fedcli.reporting.headline import headline
from fedcli.reporting.run_report import ClientReport, ClientRound, RoundReport
from fedcli.reporting.subject import Subject, subject_of
from fedcli.run import Run
from fedcli.run.info import client_order

Number = TypeVar("Number", int, float)
Entries = Sequence[tuple[RoundReport, ClientRound]]


def total(values: Iterable[Number | None]) -> Number | None:
    """Return the sum; None without values, or if one of them is not known, or if it overflows."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    found = sum(value for value in known if value is not None)
    return found if math.isfinite(found) else None


def client_reports(
    run: Run, rounds: Sequence[RoundReport], partition: PartitionFile | None
) -> tuple[ClientReport, ...]:
    """Describe every client of a run, and any other that its rounds name, in client order."""
    entries = defaultdict[str, list[tuple[RoundReport, ClientRound]]](list)
    for round_ in rounds:
        for entry in round_.clients:
            entries[entry.client].append((round_, entry))
    missing = _counted(round_.missing for round_ in rounds)
    late = Counter(absence.client for round_ in rounds for absence in round_.late)
    rejected = _counted(round_.rejected for round_ in rounds)
    drawn = [round_.sampled for round_ in rounds if round_.sampled is not None]
    sampled = Counter(client for clients in drawn for client in clients)
    counts = partition.label_counts if partition else {}
    ids = client_order({*run.info.clients, *counts, *entries, *sampled, *missing, *late, *rejected})
    reports = (
        replace(
            _trained(client, entries.get(client, ()), counts.get(client)),
            sampled=sampled[client] if drawn else None,
            missing=missing[client],
            late=late[client],
            rejected=rejected[client],
        )
        for client in ids
    )
    return tuple(_with_scores(reports, rounds))


def _with_scores(
    reports: Iterable[ClientReport], rounds: Sequence[RoundReport]
) -> Iterator[ClientReport]:
    accuracy = {subject_of(s): s.accuracy for round_ in rounds for s in round_.scores}
    tested = headline([rounds]) or Subject()
    for report in reports:
        client = report.client
        yield replace(
            report,
            validation_accuracy=accuracy.get(Subject("global", "validation", data_client=client)),
            own_accuracy=accuracy.get(replace(tested, model="update", client=client)),
            test_accuracy=accuracy.get(Subject("global", "client-test", data_client=client)),
            personal_accuracy=_personal(accuracy, client),
        )


def _personal(accuracy: Mapping[Subject, float], client: str) -> float | None:
    """Return the accuracy of a client's personal model, on its own examples if they were scored."""
    for data, owner in (("client-test", client), ("validation", client), ("test", "")):
        subject = Subject("personal", data, client=client, data_client=owner)
        if subject in accuracy:
            return accuracy[subject]
    return None


def _counted(absences: Iterable[Sequence[Absence]]) -> Mapping[str, int]:
    """Count for each client the rounds that name it."""
    return Counter(client for round_ in absences for client in {entry.client for entry in round_})


def _trained(client: str, entries: Entries, counts: tuple[int, ...] | None) -> ClientReport:
    own = [entry for _, entry in entries]
    last = own[-1] if own else None
    devices = sorted({entry.device for entry in own if entry.device})
    trained_on = last.num_examples if last else None
    return ClientReport(
        client=client,
        examples=trained_on if counts is None else sum(counts),
        label_counts=counts,
        rounds=sum(round_.complete for round_, _ in entries),
        stale=sum(entry.update_round < round_.number for round_, entry in entries),
        local_loss=last.local_loss if last else None,
        local_accuracy=last.local_accuracy if last else None,
        seconds=total(entry.seconds for entry in own),
        device=", ".join(devices) or None,
        weight=last.weight if last else None,
        bytes_up=total(entry.bytes for entry in own),
        bytes_down=total(entry.bytes_down for entry in own),
    )
