"""From the typed options of ``run`` and a plan file to what its step takes."""

from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

from fedcli.cli.options.plan_file import PlanFile
from fedcli.errors import UsageError
from fedcli.execution.place import Place
from fedcli.execution.step_arguments import StepOptions
from fedcli.experiment.sections import SECTIONS, Running, TakingPart, execution_of
from fedcli.formats.partition import PartitionFile
from fedcli.options import NONE, Declared, Given
from fedcli.plan import Plan
from fedcli.plan.aggregate import aggregation_over_file
from fedcli.plan.comparison import OtherOption, other_options
from fedcli.plan.stopping import Stopping
from fedcli.plan.train import training_over_file
from fedcli.run import Run
from fedcli.run.inputs import settings_of

# Where these are off, making the run may have set them: for its rule, and with --lora.
_COMPLETED = ("initial_loss", "freeze")
_SAID_IN_SEVERAL_WAYS = ("--labels", "--download", "--test-fraction")
_UNKNOWN = object()


def how_to_run(
    run: Run,
    file: PlanFile,
    typed: Given,
    training: Given,
    aggregation: Given,
    *,
    own_model: str | None,
    noise_key: Path | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return the arguments of ``run_rounds``; ``typed`` are options of ``[run]``.

    Raises ``UsageError`` for values that are out of range or exclude each other, and if nobody
    says how many rounds.
    """
    running = file.section(Running, typed)
    if running.rounds is None:
        raise UsageError(
            "--rounds: say how many rounds the run is to have",
            hint="--rounds 10, or rounds = 10 in [run] of the file of --plan",
        )
    taking_part = file.section(TakingPart, typed)
    of_file = file.of("train").items()
    planned = {key: value for key, value in of_file if value or key not in _COMPLETED}
    options = StepOptions(
        training=training_over_file(planned, training),
        aggregation=aggregation_over_file(file.of("aggregate"), aggregation),
        execution=execution_of({**file.of("run"), **typed}),
        min_clients=taking_part.min_clients,
        exclude=taking_part.exclude,
        seed=seed,
        own_model=own_model or file.own_model,
        clients_per_process=running.clients_per_process,
        fan_out=running.fan_out,
    )
    plan = run.info.plan.with_options(options.training, options.aggregation)
    return {
        "rounds": running.rounds,
        "options": _with_key(options, plan, noise_key),
        "jobs": running.jobs,
        "evaluate": running.evaluate,
        "keep_updates": running.keep_updates,
        "stopping": file.section(Stopping, typed),
        "place": file.section(Place, typed),
    }


def _with_key(options: StepOptions, plan: Plan, noise_key: Path | None) -> StepOptions:
    """Give the key to the steps that draw from it. Raises ``UsageError`` if there are none."""
    if noise_key is None:
        return options
    trains = plan.train.dp is not None
    sums = bool(plan.aggregate.update_noise) and plan.secagg is None  # else members add noise
    if not trains and not sums:
        why = "with --secagg and without --dp: members draw from their own keys"
        if plan.secagg is None:
            why = "without --dp or --update-noise"
        raise UsageError(f"--noise-key: has no use {why}", hint="leave --noise-key out")
    key = noise_key.resolve()
    return replace(
        options, noise_key=key if trains else None, central_noise_key=key if sums else None
    )


def made_otherwise(run: Run, file: PlanFile) -> list[str]:
    """Say where the run was made otherwise than the file says, which nothing changes any more."""
    if file.path is None:
        return []
    partition = PartitionFile.try_read(run.partition_file)
    made = settings_of(run.info, {} if partition is None else partition.data_options)
    seeds = {"data_seed": run.info.data_seed, "partition_seed": run.info.partition_seed}
    found = [
        str(one)
        for section in ("data", "model", "partition", "secagg", "run")
        if (asked := file.sections.get(section))
        for one in _others(section, made.get(section, NONE), asked, seeds)
    ]
    said = f"{file.path}: the run stays as it was made, with {'; '.join(found)}"
    return [said] if found else []


def _others(section: str, made: Given, asked: Given, seeds: Given) -> list[OtherOption]:
    known = SECTIONS[section]()
    then = {**{key: _if_not_said(section, known[key]) for key in asked}, **seeds, **made}
    names = [key for key in asked if then[key] is not _UNKNOWN and not _is_place(known[key])]
    different = other_options(then, asked, names)
    return [one for one in different if one.name != "dataset" or _kind(one.then) != _kind(one.now)]


def _is_place(one: Declared) -> bool:
    return one.kind is Path or one.words in _SAID_IN_SEVERAL_WAYS


def _kind(dataset: str) -> str:
    return dataset.partition(":")[0]


def _if_not_said(section: str, one: Declared) -> Any:
    """Return the value of an option that a run does not record: its default, or off."""
    if section == "run":
        return _UNKNOWN
    if section == "partition" and one.default is MISSING:
        return False if one.kind is bool else None
    if one.default is MISSING or one.option.unset is not None:
        return _UNKNOWN
    return one.default
