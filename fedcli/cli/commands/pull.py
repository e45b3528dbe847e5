"""``fedcli pull``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import comma_list, one_a_time
from fedcli.cli.options.shared import REMOTE_CLIENTS, RUN, WHOLE, OutputOptions
from fedcli.cli.render.output import Output


@shown("--id --wait --run", "fedcli pull for-mercy.zip --id mercy")
def pull(
    remotes: list[str] | None = typer.Argument(
        None,
        help="Folders, URLs such as s3://bucket/study or sftp://host/study, or .zip files; by"
        " default what the run names.",
        metavar="REMOTE",
        show_default=False,
    ),
    run: Path = RUN,
    clients: str | None = REMOTE_CLIENTS,
    wait: float | None = typer.Option(
        None,
        min=0,
        help="Wait this long: a client for something to do, the coordinator for missing clients.",
        metavar="SECONDS",
    ),
    whole: bool = WHOLE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Fetch what is needed of a run elsewhere: from folders, stores and single files."""
    with Output("pull", printing) as output:
        from fedcli.cli.render.pull import render
        from fedcli.steps.pull import pull as step

        result = step(
            run,
            one_a_time(remotes or ()),
            clients=comma_list(clients or ""),
            wait=wait or 0,
            whole=whole,
            progress=output,
        )
        output.result(result, render)
