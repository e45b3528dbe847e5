"""``fedcli push``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import comma_list
from fedcli.cli.options.shared import REMOTE_CLIENTS, RUN, WHOLE, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.run import Run


@shown("--id --run", "fedcli push from-mercy.zip --id mercy")
def push(
    remote: str | None = typer.Argument(
        None,
        help="A folder, a URL such as s3://bucket/study or sftp://host/study, or one .zip file; by"
        " default what the run names.",
        metavar="REMOTE",
        show_default=False,
    ),
    run: Path = RUN,
    clients: str | None = REMOTE_CLIENTS,
    whole: bool = WHOLE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Send what others need of a run: to a folder, a store, or one file."""
    with Output("push", printing) as output:
        from fedcli.cli.render.push import render
        from fedcli.steps.push import push as step

        chosen = comma_list(clients or "")
        result = step(Run.open(run), remote, clients=chosen, whole=whole, progress=output)
        output.result(result, render)
