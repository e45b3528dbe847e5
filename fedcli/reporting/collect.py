"""Collect what the directory of one run says; what is missing becomes a note."""

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from typing import Any

from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.manifest import Contribution, Manifest
from fedcli.formats.partition import PartitionFile
from fedcli.formats.telemetry import Telemetry
from fedcli.reporting.clients import client_reports, total
from fedcli.reporting.notes import notes_on
from fedcli.reporting.optional_files import OptionalFiles
from fedcli.reporting.received import Received, size_of
from fedcli.reporting.recipe import Machines, recipe_of
from fedcli.reporting.rules import rule_label
from fedcli.reporting.run_report import ClientRound, Note, RoundReport, RunReport
from fedcli.reporting.scored_rounds import current_scores
from fedcli.reporting.spent import with_epsilon
from fedcli.reporting.training import algorithm_label, training_of
from fedcli.reporting.words import named
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command
from fedcli.run.participation import COVERED
from fedcli.run.round import Round
from fedcli.run.used_updates import disagreement, header_of


def collect(run: Run, label: str) -> RunReport:
    """Read everything that a report can use from a run's directory, apart from its tensors.

    A file that cannot be used is left out, and a note says so.
    """
    files, machines = OptionalFiles(run), Machines()
    partition = files.read(PartitionFile, run.partition_file)
    rounds, remarks = _rounds(run, files, machines)
    rounds, spent = with_epsilon(run, rounds)
    training = training_of(run.info.plan.train, rounds)
    test = partition.shards.get("test.safetensors") if partition else None
    report = RunReport(
        label=label,
        path=str(run.root),
        run=run.id,
        dataset=run.info.dataset.name,
        model=run.info.model.name,
        scheme=partition.scheme if partition else None,
        classes=run.info.dataset.classes,
        centralised=_is_centralised(run),
        test_content_sha256=test.content_sha256 if test else None,
        rounds=rounds,
        clients=client_reports(run, rounds, partition),
        notes=(),
        heterogeneity=partition.heterogeneity if partition else None,
        seed=run.info.seed,
        parameters=partition.parameters if partition else {},
        recipe=recipe_of(run, partition, rounds, machines),
        training=training,
        algorithm=algorithm_label(training),
    )
    return replace(
        report, notes=(*files.notes(), *spent, *notes_on(run, report, partition), *remarks)
    )


def _is_centralised(run: Run) -> bool:
    return len(run.info.clients) == 1


def _rounds(
    run: Run, files: OptionalFiles, machines: Machines
) -> tuple[tuple[RoundReport, ...], list[Note]]:
    last = max((round_.number for round_ in run.complete_rounds()), default=-1)
    reports, notes, received = [], [], Received(run)
    for round_ in run.rounds():
        manifest = _manifest(round_, files)
        clients, without = _clients(run, round_, manifest, files, machines)
        if manifest:
            machines.note_aggregation(manifest)
        scores, outdated = _scores(run, round_, manifest, files)
        report = RoundReport(
            number=round_.number,
            complete=round_.number <= last,
            rule=rule_label(manifest) if manifest else None,
            clients=clients,
            scores=scores,
            aggregation_seconds=manifest.seconds if manifest else None,
            evaluation_seconds=total(score.seconds for score in scores),
            **_shared(RoundReport, manifest),
        )
        report = _without_covered(report)
        reports.append(_with_bytes(run, round_, _with_times(report), received))
        notes += [*without, *outdated]
    return _accumulated(reports), notes


def _without_covered(report: RoundReport) -> RoundReport:
    """Leave out what the model has from a partial mean, or from a sum of masked updates."""
    rejected = (absence for absence in report.rejected if absence.reason != COVERED)
    return replace(report, rejected=tuple(rejected))


def _manifest(round_: Round, files: OptionalFiles) -> Manifest | None:
    """Read a manifest; one that says otherwise than the header of its model is left out."""
    manifest = files.read(Manifest, round_.manifest)
    fault = None if manifest is None else disagreement(manifest, header_of(round_))
    if fault is None:
        return manifest
    files.leave_out(round_.manifest, f"{fault} than the global model")
    return None


def _shared(kind: Any, record: Any) -> dict[str, Any]:
    """Return the fields of a record of the run that ``kind`` has too; none of None."""
    return {} if record is None else {n: getattr(record, n) for n in _both(kind, record.__class__)}


@cache
def _both(kind: type[Any], record: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields that two records have."""
    other = {field.name for field in fields(record)}
    return tuple(field.name for field in fields(kind) if field.name in other)


def _with_times(report: RoundReport) -> RoundReport:
    known = [client.seconds for client in report.clients if client.seconds is not None]
    return replace(
        report,
        training_seconds_max=max(known, default=None),
        training_seconds_sum=sum(known) if known else None,
    )


def _with_bytes(run: Run, round_: Round, report: RoundReport, received: Received) -> RoundReport:
    if _is_centralised(run) or round_.number == 0:
        return replace(report, bytes_up=0, bytes_down=0)
    clients = tuple(replace(c, bytes_down=received.size(c)) for c in report.clients)
    up = [*(c.bytes for c in clients), *(p.bytes for p in report.partials)]
    whole = [received.whole(round_.number - 1)] * len(report.partials)
    down = [*(c.bytes_down for c in clients), *whole]
    return replace(report, clients=clients, bytes_up=total(up), bytes_down=total(down))


def _accumulated(rounds: Iterable[RoundReport]) -> tuple[RoundReport, ...]:
    """Fill in ``bytes_total``; after a size that is not known, no total is."""
    so_far: int | None = 0
    result = []
    for round_ in rounds:
        so_far = total([so_far, round_.bytes_up, round_.bytes_down])
        result.append(replace(round_, bytes_total=so_far))
    return tuple(result)


def _clients(
    run: Run, round_: Round, manifest: Manifest | None, files: OptionalFiles, machines: Machines
) -> tuple[tuple[ClientRound, ...], list[Note]]:
    """Join the manifest (else what was delivered) with the telemetry of the same updates."""
    accepted: dict[str, Contribution | None] = dict.fromkeys(round_.delivered())
    if manifest:
        accepted = {entry.client: entry for entry in manifest.accepted}
    clients, without = [], []
    for client, entry in accepted.items():
        own = run.round(entry.round) if entry else round_
        telemetry = _telemetry(own, client, entry, files)
        if telemetry is None:
            without.append(client)
        else:
            machines.note(telemetry)
        clients.append(_client(own, client, entry, telemetry))
    if not without:
        return tuple(clients), []
    text = (
        f"round {round_.number}: no telemetry of the accepted update of"
        f" {named('client', without)}: training times and local scores are incomplete"
    )
    return tuple(clients), [Note(text)]


def _telemetry(
    round_: Round, client: str, entry: Contribution | None, files: OptionalFiles
) -> Telemetry | None:
    """Read the telemetry of a client; None if there is none, or if it is of another update."""
    telemetry = files.read(Telemetry, round_.telemetry(client))
    is_other = telemetry and entry and telemetry.sha256 != entry.sha256
    return None if is_other else telemetry


def _client(
    round_: Round, client: str, entry: Contribution | None, telemetry: Telemetry | None
) -> ClientRound:
    """Describe one update; what the manifest says of it goes before its telemetry."""
    values = {
        "num_examples": None,
        "weight": None,
        **_shared(ClientRound, telemetry),
        "bytes": None if entry else size_of(round_.update(client)),
        **_shared(ClientRound, entry),
    }
    return ClientRound(**{**values, "client": client, "update_round": round_.number})


def _scores(
    run: Run, round_: Round, manifest: Manifest | None, files: OptionalFiles
) -> tuple[tuple[Score, ...], list[Note]]:
    """Return the scores of the models that the round holds now, and a note on outdated ones."""
    evaluation = files.read(Evaluation, round_.evaluation)
    scores = evaluation.results if evaluation else ()
    kept = current_scores(scores, manifest)
    if len(kept) == len(scores):
        return kept, []
    text = f"round {round_.number}: evaluation.json has scores of a model since replaced: left out"
    return kept, [Note(text, evaluate_command(run, f"evaluate --round {round_.number}"))]
