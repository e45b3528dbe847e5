"""Notes on a run: what is missing from its report, and the command that would add it."""

from collections.abc import Sequence

from fedcli.formats.partition import PartitionFile
from fedcli.reporting.absences import absence_notes
from fedcli.reporting.rules import rule_notes
from fedcli.reporting.run_report import Note, RoundReport, RunReport
from fedcli.reporting.standouts import standout_notes
from fedcli.reporting.training import bound_notes, departure_notes
from fedcli.reporting.words import counted, rounds_named, runs_named
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command, train_command
from fedcli.run.sampling import sampled_clients

_NOTES = 12  # on many runs together


def notes_on(run: Run, report: RunReport, partition: PartitionFile | None) -> tuple[Note, ...]:
    """Return the notes on a run, the most important ones first."""
    return (
        *_centralised(report, partition),
        *_withheld(run, report),
        *standout_notes(report.complete_rounds()),
        *bound_notes(report.complete_rounds()),
        *departure_notes(run.info.plan.train, report.complete_rounds()),
        *rule_notes(run.info.plan.aggregate, run.info.clients, report.complete_rounds()),
        *_remarks(report),
        *_not_evaluated(run, report),
        *_open_round(run, report),
        *_incomplete(report),
        *absence_notes(report.complete_rounds()),
    )


def merged_notes(runs: Sequence[RunReport]) -> list[Note]:
    """Return each note once, with the runs that it is on, and the command of a single run."""
    found: dict[str, tuple[list[str], Note]] = {}
    for run in runs:
        for note in run.notes:
            found.setdefault(note.text, ([], note))[0].append(run.label)
    notes = [
        Note(f"{runs_named(labels)}: {text}", note.command if len(labels) == 1 else None)
        for text, (labels, note) in found.items()
    ]
    if more := notes[_NOTES:]:
        notes[_NOTES:] = [Note(f"{counted(len(more), 'more note')}: see --details")]
    return notes


def _centralised(report: RunReport, partition: PartitionFile | None) -> list[Note]:
    if not report.centralised:
        return []
    text = "one client holds all examples, so no model is exchanged"
    shards = partition.shards.items() if partition else ()
    sizes = [shard.bytes for name, shard in shards if name.startswith("client-")]
    if sum(sizes):
        text += f"; collecting them once costs {sum(sizes) / 1e6:.1f} MB (decoded)"
    return [Note(text)]


def _withheld(run: Run, report: RunReport) -> list[Note]:
    entries = (entry for round_ in report.complete_rounds() for entry in round_.clients)
    silent = any(one.weight is not None and one.num_examples is None for one in entries)
    if not (run.info.plan.withholds or silent):
        return []
    return [Note("private clients withhold numbers of examples, losses, times and memory")]


def _remarks(report: RunReport) -> list[Note]:
    said: dict[str, list[int]] = {}
    for round_ in report.complete_rounds():
        for remark in round_.remarks:
            said.setdefault(remark, []).append(round_.number)
    return [Note(f"{rounds_named(numbers)}: {remark}") for remark, numbers in said.items()]


def _not_evaluated(run: Run, report: RunReport) -> list[Note]:
    trained = report.trained_rounds()
    missing = [round_.number for round_ in trained if not _has_global_score(round_)]
    if not missing:
        return []
    which = "latest" if len(missing) == 1 and missing[0] == trained[-1].number else "all"
    verb = "is" if len(missing) == 1 else "are"
    return [
        Note(
            f"{rounds_named(missing)} {verb} not evaluated",
            evaluate_command(run, f"evaluate --round {which}"),
        )
    ]


def _has_global_score(round_: RoundReport) -> bool:
    return any(score.model == "global" and not score.data_client for score in round_.scores)


def _open_round(run: Run, report: RunReport) -> list[Note]:
    """Say how far the open round is, if a client has delivered or no round is complete."""
    complete = report.complete_rounds()
    number = complete[-1].number + 1 if complete else 0
    delivered = next((r.clients for r in report.rounds if r.number == number), ())
    if number == 0:
        return [Note("the starting model is missing: rounds/0000/global.safetensors")]
    if number > 1 and not delivered:
        return []
    expected = sampled_clients(run.info, number)
    of_all = f" of {len(expected)}" if expected else ""
    text = f"round {number} is open: {len(delivered)}{of_all} clients have delivered"
    late = [c for c in expected if c not in {entry.client for entry in delivered}]
    if delivered and not late:
        return [Note(text, run.command("aggregate"))]
    return [Note(text, train_command(run, late))]


def _incomplete(report: RunReport) -> list[Note]:
    trained = report.trained_rounds()
    notes = []
    if numbers := [r.number for r in trained if r.strategy is None and not r.clients]:
        text = f"{rounds_named(numbers)}: no aggregate.json and no updates: nothing says"
        notes.append(Note(f"{text} what the model was made from"))
    if numbers := [r.number for r in trained if r.bytes_up is None or r.bytes_down is None]:
        notes.append(Note(f"{rounds_named(numbers)}: the size of some files is not known"))
    return notes
