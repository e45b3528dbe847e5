"""``fedcli plan``."""

import json
from pathlib import Path

import typer

from fedcli.cli.options.shared import OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.run import Run


def plan(
    of: Path | None = typer.Option(
        None, "--of", help="Print the file that makes the run in DIR again.", metavar="DIR"
    ),
    schema: bool = typer.Option(
        False, "--schema", help="Print a JSON schema of the file, for editors."
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Print an experiment's file, with every option, its meaning and its default."""
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
