"""Put together what the directory of one run says; what is missing becomes a note."""

from dataclasses import replace
from pathlib import Path

from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.manifest import Contribution, Manifest
from fedcli.formats.partition import PartitionFile
from fedcli.formats.telemetry import Telemetry
from fedcli.reporting.clients import client_reports, total
from fedcli.reporting.model import Note, Participation, RoundReport, RunReport
from fedcli.reporting.notes import notes_on
from fedcli.reporting.rules import rule_label
from fedcli.reporting.words import named
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command
from fedcli.run.round import Round


def collect(run: Run, label: str) -> RunReport:
    """Read everything that a report can use from a run's directory, apart from its tensors.

    Raises ``BadInputError`` that names a file which cannot be used.
    """
    partition = PartitionFile.read(run.partition_file)
    centralised = len(run.info.clients) == 1
    last = max((round_.number for round_ in run.complete_rounds()), default=-1)
    found = [
        _collect_round(run, round_, complete=round_.number <= last, centralised=centralised)
        for round_ in run.rounds()
    ]
    rounds = _accumulate([round_ for round_, _ in found])
    remarks = [note for _, notes in found for note in notes]
    test = partition.shards.get("test.safetensors") if partition else None
    report = RunReport(
        label=label,
        path=str(run.root),
        run=run.id,
        dataset=run.info.dataset.name,
        model=run.info.model.name,
        scheme=partition.scheme if partition else None,
        classes=run.info.dataset.classes,
        centralised=centralised,
        test_content_sha256=test.content_sha256 if test else None,
        rounds=rounds,
        clients=client_reports(run, rounds, partition),
        notes=(),
        heterogeneity=partition.heterogeneity if partition else None,
    )
    return replace(report, notes=(*notes_on(run, report, partition), *remarks))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _base_size(run: Run, round_: Round) -> int | None:
    """Return the size of a round's base model; where it was deleted, of the model made from it."""
    size = _size(run.round(round_.number - 1).global_model)
    return _size(round_.global_model) if size is None else size


def _collect_round(
    run: Run, round_: Round, *, complete: bool, centralised: bool
) -> tuple[RoundReport, list[Note]]:
    manifest = Manifest.read(round_.manifest)
    clients, notes = _participations(run, round_, manifest)
    scores, stale = _scores(run, round_, manifest)
    base = _base_size(run, round_)
    partials = manifest.partials if manifest else ()
    free = centralised or round_.number == 0
    seconds = [client.seconds for client in clients if client.seconds is not None]
    report = RoundReport(
        number=round_.number,
        complete=complete,
        rule=rule_label(manifest) if manifest else None,
        strategy=manifest.strategy if manifest else None,
        reduce=manifest.reduce if manifest else None,
        server_optimizer=manifest.server_optimizer if manifest else None,
        weighting=manifest.weighting if manifest else None,
        options=manifest.options if manifest else {},
        sampled=manifest.sampled if manifest else None,
        clients=clients,
        partials=partials,
        missing=manifest.missing if manifest else (),
        late=manifest.late if manifest else (),
        rejected=manifest.rejected if manifest else (),
        bytes_up=0 if free else total([*(c.bytes for c in clients), *(p.bytes for p in partials)]),
        bytes_down=0 if free else base and base * (len(clients) + len(partials)),
        bytes_total=None,
        training_seconds_max=max(seconds, default=None),
        training_seconds_sum=sum(seconds) if seconds else None,
        aggregation_seconds=manifest.seconds if manifest else None,
        evaluation_seconds=total(score.seconds for score in scores),
        scores=scores,
    )
    return report, [*notes, *stale]


def _participations(
    run: Run, round_: Round, manifest: Manifest | None
) -> tuple[tuple[Participation, ...], list[Note]]:
    """Join the manifest (else what was delivered) with the telemetry of the same updates."""
    accepted: dict[str, Contribution | None] = dict.fromkeys(round_.delivered())
    if manifest:
        accepted = {entry.client: entry for entry in manifest.accepted}
    clients, without = [], []
    for client, entry in accepted.items():
        own = run.round(entry.round) if entry else round_
        telemetry = Telemetry.read(own.telemetry(client))
        if telemetry and entry and telemetry.sha256 != entry.sha256:
            telemetry = None
        if telemetry is None:
            without.append(client)
        clients.append(_participation(own, client, entry, telemetry))
    notes = []
    if without:
        text = (
            f"round {round_.number}: no telemetry of the accepted update of"
            f" {named('client', without)}: training times and local scores are incomplete"
        )
        notes.append(Note(text))
    return tuple(clients), notes


def _participation(
    round_: Round, client: str, entry: Contribution | None, telemetry: Telemetry | None
) -> Participation:
    said = entry or telemetry
    found = Participation(
        client=client,
        num_examples=said.num_examples if said else None,
        weight=entry.weight if entry else None,
        bytes=entry.bytes if entry else _size(round_.update(client)),
        update_round=round_.number,
    )
    if entry:
        found = replace(
            found,
            norm=entry.norm,
            cosine=entry.cosine,
            distance=entry.distance,
            kept=entry.kept,
        )
    if telemetry is None:
        return found
    return replace(
        found,
        seconds=telemetry.seconds,
        images_per_second=telemetry.images_per_second,
        device=telemetry.device,
        peak_memory_bytes=telemetry.peak_memory_bytes,
        epochs=telemetry.epochs,
    )


def _scores(
    run: Run, round_: Round, manifest: Manifest | None
) -> tuple[tuple[Score, ...], list[Note]]:
    """Return the scores of the models that the round holds now; others are out of date."""
    evaluation = Evaluation.read(round_.evaluation)
    scores = evaluation.results if evaluation else ()
    if manifest is None:
        return scores, []
    current: dict[tuple[str, str | None], str | None]
    current = {("update", entry.client): entry.sha256 for entry in manifest.accepted}
    current["global", None] = manifest.global_model
    kept = tuple(
        score
        for score in scores
        if score.sha256 is None or current.get((score.model, score.client)) in (None, score.sha256)
    )
    if len(kept) == len(scores):
        return kept, []
    text = f"round {round_.number}: evaluation.json has scores of a model since replaced: left out"
    return kept, [Note(text, evaluate_command(run, f"evaluate --round {round_.number}"))]


def _accumulate(rounds: list[RoundReport]) -> tuple[RoundReport, ...]:
    """Fill in ``bytes_total``; once a size is not known, neither is any later total."""
    so_far: int | None = 0
    result = []
    for round_ in rounds:
        so_far = total([so_far, round_.bytes_up, round_.bytes_down])
        result.append(replace(round_, bytes_total=so_far))
    return tuple(result)
