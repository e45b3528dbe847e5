"""Whether the last round that ``run`` is to complete was made with the options that it is given."""

from collections.abc import Iterator
from pathlib import Path

from fedcli.aggregation.existing_round import other_rule
from fedcli.aggregation.round_privacy import RoundPrivacy, options_of
from fedcli.errors import BadInputError, ConflictError, NotReadyError
from fedcli.execution.step_arguments import StepOptions
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import encode
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import Plan
from fedcli.plan.comparison import OtherOption, other_options
from fedcli.plan.train import NOT_RECORDED, TRAIN_OPTIONS
from fedcli.run import Run
from fedcli.run.info import client_order
from fedcli.run.participation import EXCLUDED
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients
from fedcli.strategies import Rule

_MACHINE = ("device", "threads", "compile")  # compared only if typed


def check_made_with(run: Run, number: int, rule: Rule, options: StepOptions) -> None:
    """Raise ``ConflictError`` if a complete round was made with other options.

    Updates and manifests that were removed, or that cannot be read, are passed over.
    """
    round_, plan = run.round(number), run.info.plan.with_options(options.training, {})
    manifest = Manifest.try_read(round_.manifest)
    if manifest is None:
        return
    others = _other_aggregation(run, manifest, rule, options)
    who = "was aggregated"
    if not others:
        who, others = _other_training(run, round_, manifest, plan, options)
    if others:
        raise ConflictError(
            f"round {number} is complete, and {who} with {'; '.join(map(str, others))}",
            hint="give these options again, or continue with the new ones: "
            + run.command(f"run --rounds {run.open_round().number}"),
            path=round_.path,
        )


def _other_aggregation(
    run: Run, manifest: Manifest, rule: Rule, options: StepOptions
) -> list[OtherOption]:
    plan = run.info.plan.aggregate.with_options(options.aggregation)
    beside = {**plan.limits, **plan.downlink, **options_of(RoundPrivacy.of(run, plan, None))}
    if others := other_rule(manifest, rule, beside):
        return others
    excluded = run.choose_clients(options.exclude, "--exclude") if options.exclude else []
    drawn = sampled_clients(run.info, manifest.round, plan)
    if run.info.plan.secagg is not None:  # the list of survivors does not say why one is missing
        excluded = []
    then = {
        "exclude": client_order(e.client for e in manifest.rejected if e.reason == EXCLUDED),
        "clients_per_round": len(manifest.sampled or run.info.clients),
    }
    now = {"exclude": client_order(excluded), "clients_per_round": len(drawn)}
    return other_options(then, now, now)


def _other_training(
    run: Run, round_: Round, manifest: Manifest, plan: Plan, options: StepOptions
) -> tuple[str, list[OtherOption]]:
    """Return whose training differs, and how, for the first client whose does."""
    typed = {name: value for name, value in options.execution.items() if value is not None}
    machine = {name: typed[name] for name in _MACHINE if typed.get(name) not in (None, "auto")}
    if "device" in machine:
        machine["device"] = machine["device"].partition(":")[0]  # as updates record it
    names = [name for name in TRAIN_OPTIONS if name not in _passed_over(plan)]
    asked = {
        **encode(TrainingRecord().plus(plan.train.resolved().recorded(round_.number))),
        **machine,
        "seed": run.info.seed if options.seed is None else options.seed,
    }
    for client, found in _updates(run, round_, manifest):
        then = {**encode(found.training), "seed": found.seed}
        if others := other_options(then, asked, [*names, *machine, "seed"]):
            return f"client {client} was trained", others
    return "", []


def _passed_over(plan: Plan) -> set[str]:
    """Return the options that updates do not record, or record in another form."""
    length = {"steps"} if plan.train.steps is None else set()
    layers = {"local_layers"} if plan.train.local.keeps_layers else set()
    return {*NOT_RECORDED, *length, *layers}


def _updates(run: Run, round_: Round, manifest: Manifest) -> Iterator[tuple[str, Metadata]]:
    accepted = [entry.client for entry in manifest.accepted if entry.round == round_.number]
    late = {entry.client for entry in manifest.late}
    if run.info.plan.secagg is not None:  # the manifest names their sum
        accepted = [client for client in round_.delivered() if client not in late]
    for client in accepted:
        path = round_.update(client)
        if path.exists() and (metadata := _metadata(path)) is not None:
            yield client, metadata


def _metadata(path: Path) -> Metadata | None:
    try:
        with Checkpoint(path, Kind.UPDATE) as update:
            return update.metadata
    except (BadInputError, NotReadyError):
        return None
