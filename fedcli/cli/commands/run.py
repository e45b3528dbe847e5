"""``fedcli run``."""

from pathlib import Path

from fedcli.cli import streams
from fedcli.cli.manual import shown
from fedcli.cli.options.plan_file import PlanFile
from fedcli.cli.options.sections import (
    AggregationOptions,
    PassedOnOptions,
    PlaceOptions,
    RunningOptions,
    StoppingOptions,
    TakingPartOptions,
    TrainingOptions,
)
from fedcli.cli.options.shared import NOISE_KEY, OWN_MODEL, PLAN, RUN, SEED, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE
from fedcli.run import Run


@shown("--rounds --run --jobs --plan --epochs --lr", "fedcli run --rounds 10")
def run(
    run: Path = RUN,
    running: RunningOptions = NONE,
    stopping: StoppingOptions = NONE,
    plan: Path | None = PLAN,
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    taking_part: TakingPartOptions = NONE,
    execution: PassedOnOptions = NONE,
    place: PlaceOptions = NONE,
    own_model: str | None = OWN_MODEL,
    noise_key: Path | None = NOISE_KEY,
    seed: int | None = SEED,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Run many rounds with one command, from where the run stands, by launching the same steps."""
    from fedcli.cli.options.running import how_to_run, made_otherwise
    from fedcli.cli.render.run import render
    from fedcli.steps.run import run_rounds

    opened = Run.open(run)
    file = PlanFile.read(plan)
    typed = {**running, **stopping, **taking_part, **execution, **place}
    (asked,) = file.build(
        lambda file: how_to_run(
            opened,
            file,
            typed,
            training,
            aggregation,
            own_model=own_model,
            noise_key=noise_key,
            seed=seed,
        )
    )
    streams.stop_like_an_interrupt()  # which stops the steps, and keeps the rest
    with Output("run", printing) as output:
        for line in (*made_otherwise(opened, file), *file.unused((), "")):
            output.say(line)
        result = run_rounds(opened, progress=output, **asked)
        output.result(result, lambda result: render(result, opened.command("report")))
