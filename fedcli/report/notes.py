"""What a reader has to know of a run besides its figures: what is missing, and how to get it."""

from collections.abc import Sequence

from fedcli.advice import evaluate_command, train_command
from fedcli.report.model import Note, RoundReport, RunReport
from fedcli.report.records import Partition
from fedcli.run import Run


def named(noun: str, names: Sequence[object]) -> str:
    """Return ``client 2`` or ``clients 0, 1, 4``, of many only the first ones."""
    if len(names) == 1:
        return f"{noun} {names[0]}"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{noun}s {', '.join(map(str, names[:8]))}{more}"


def notes_on(run: Run, report: RunReport, partition: Partition | None) -> tuple[Note, ...]:
    """Return the notes on one run, the most important first."""
    return (
        *_centralised(report, partition),
        *_not_evaluated(run, report),
        *_open_round(run, report),
        *_incomplete(report),
    )


def _centralised(report: RunReport, partition: Partition | None) -> list[Note]:
    if not report.centralised:
        return []
    text = "one client holds all examples, so no model is exchanged"
    shards = partition.shards.items() if partition else ()
    sizes = [shard.bytes or 0 for name, shard in shards if name.startswith("client-")]
    if sum(sizes):
        text += f"; to collect them costs {sum(sizes) / 1e6:.1f} MB (decoded), once"
    return [Note(text)]


def _not_evaluated(run: Run, report: RunReport) -> list[Note]:
    trained = [round_ for round_ in report.complete_rounds() if round_.number > 0]
    missing = [round_.number for round_ in trained if not _has_global_score(round_)]
    if not missing:
        return []
    which = "latest" if len(missing) == 1 and missing[0] == trained[-1].number else "all"
    verb = "is" if len(missing) == 1 else "are"
    return [
        Note(
            f"{named('round', missing)} {verb} not evaluated",
            evaluate_command(run, f"evaluate --round {which}"),
        )
    ]


def _has_global_score(round_: RoundReport) -> bool:
    return any(score.model == "global" and not score.data_client for score in round_.scores)


def _open_round(run: Run, report: RunReport) -> list[Note]:
    """Say how far the open round is, where somebody has delivered or nothing is done yet."""
    complete = report.complete_rounds()
    number = complete[-1].number + 1 if complete else 0
    delivered = next((r.clients for r in report.rounds if r.number == number), ())
    if number == 0:
        return [Note("the starting model is missing: rounds/0000/global.safetensors")]
    if number > 1 and not delivered:
        return []
    expected = len(run.info.clients)
    of_all = f" of {expected}" if expected else ""
    text = f"round {number} is open: {len(delivered)}{of_all} clients have delivered"
    if delivered and len(delivered) >= expected:
        return [Note(text, run.command("aggregate"))]
    late = [c for c in run.info.clients if c not in {entry.client for entry in delivered}]
    return [Note(text, train_command(run, late))]


def _incomplete(report: RunReport) -> list[Note]:
    trained = [round_ for round_ in report.complete_rounds() if round_.number > 0]
    notes = []
    if numbers := [r.number for r in trained if r.strategy is None and not r.clients]:
        text = f"{named('round', numbers)}: no aggregate.json and no updates: what the model"
        notes.append(Note(f"{text} was made from is not known"))
    if numbers := [r.number for r in trained if r.bytes_up is None or r.bytes_down is None]:
        notes.append(Note(f"{named('round', numbers)}: the size of some files is not known"))
    return notes
