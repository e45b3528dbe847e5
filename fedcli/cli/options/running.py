"""From the typed options of ``run`` and a plan file to what its step takes."""

from typing import Any

from fedcli.cli.options.plan_file import PlanFile
from fedcli.errors import UsageError
from fedcli.execution.step_arguments import StepOptions
from fedcli.experiment.sections import Running, TakingPart, passed_on
from fedcli.options import Given
from fedcli.plan.aggregate import aggregation_over_file
from fedcli.plan.stopping import Stopping
from fedcli.plan.train import training_over_file

# Where these are off, making the run may have set them: for its rule, and with --lora.
_COMPLETED = ("initial_loss", "freeze")


def how_to_run(
    file: PlanFile,
    typed: Given,
    training: Given,
    aggregation: Given,
    *,
    own_model: str | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return the arguments of ``run_rounds``; ``typed`` are options of ``[run]``.

    Raises ``UsageError`` for values out of range, and if nobody says how many rounds.
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
        execution=_execution(file, typed),
        min_clients=taking_part.min_clients,
        exclude=taking_part.exclude,
        seed=seed,
        own_model=own_model or file.own_model,
    )
    return {
        "rounds": running.rounds,
        "options": options,
        "jobs": running.jobs,
        "evaluate": running.evaluate,
        "keep_updates": running.keep_updates,
        "stopping": file.section(Stopping, typed),
    }


def _execution(file: PlanFile, typed: Given) -> Given:
    given, known = {**file.of("run"), **typed}, passed_on()
    return {key: given[key] for key in known if key in given}
