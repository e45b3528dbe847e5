"""``fedcli plan``."""

import json
from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.sections import NoiseOptions, noise_of
from fedcli.cli.options.shared import PLAN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.plan.forecast import ForecastOptions
from fedcli.run import Run


@shown("--of --schema", "fedcli plan > experiment.toml")
def plan(
    of: Path | None = typer.Option(
        None, "--of", help="Print the file that makes the run in DIR again.", metavar="DIR"
    ),
    schema: bool = typer.Option(
        False, "--schema", help="Print a JSON schema of the file, for editors."
    ),
    privacy: bool = typer.Option(
        False,
        "--privacy",
        help="Print what a plan will spend of privacy, or the noise for a target.",
    ),
    plan: Path | None = PLAN,
    noise: NoiseOptions = NONE,
    about: ForecastOptions = ForecastOptions(),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Print an experiment's file, with every option, its meaning and its default."""
    if privacy:
        if schema:
            raise UsageError("--schema: cannot be combined with --privacy")
        _forecast(None if of is None else Run.open(of), plan, noise, about, printing)
        return
    _check_forecast(plan, noise, about)
    from fedcli.steps.plan import plan_schema, plan_template

    if schema and of is not None:
        raise UsageError("--schema: is the same for every run; give it without --of")
    with Output("plan", printing) as output:
        if schema:
            found = plan_schema()
            lines = json.dumps(found, indent=2).splitlines()
            output.result({"json_schema": found}, lambda _: [*lines])
            return
        result = plan_template(None if of is None else Run.open(of))
        output.result(result, lambda result: [*result.lines])


def _forecast(
    of: Run | None, file: Path | None, noise: Given, about: ForecastOptions, printing: OutputOptions
) -> None:
    from fedcli.cli.options.plan_file import PlanFile
    from fedcli.cli.render.forecast import render
    from fedcli.steps.plan import privacy_forecast

    if of is not None and file is not None:
        raise UsageError("--of and --plan: give one of them")
    with Output("plan", printing) as output:
        training, rule = noise_of(noise)
        if of is not None:
            planned = of.info.plan.with_options(training, rule)
        else:
            (planned,) = PlanFile.read(file).build(lambda file: file.plan(training, rule))
        output.result(privacy_forecast(planned, about, noise.get("delta"), of), render)


def _check_forecast(file: Path | None, noise: Given, about: ForecastOptions) -> None:
    """Raise ``UsageError`` for options that need ``--privacy``."""
    given = {**noise, "examples": about.examples, "rounds": about.rounds, "plan": file}
    for name, value in given.items():
        if value not in (None, ()):
            raise UsageError(f"{option_of(name)}: belongs to --privacy")
