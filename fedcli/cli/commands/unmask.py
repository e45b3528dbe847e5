"""``fedcli unmask``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.shared import KEY, ROUND, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.run import Run


@shown("--id --key --run", "fedcli unmask --id st-mary --key st-mary.key")
def unmask(
    client: str | None = typer.Option(None, "--id", help="Who answers.", metavar="ID"),
    run: Path = RUN,
    round_number: int | None = ROUND,
    key: Path | None = KEY,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Help to open the sum of a closed round's masked updates, as one of its members."""
    with Output("unmask", printing) as output:
        if client is None:
            raise UsageError("--id: say who answers")
        from fedcli.cli.render.unmask import render
        from fedcli.steps.unmask import unmask as step

        opened = Run.open(run)
        result = step(opened, client, key=key, round_number=round_number)
        output.result(result, lambda result: render(result, opened))
