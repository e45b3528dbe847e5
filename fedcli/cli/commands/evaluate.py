"""``fedcli evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import names_with_commas, one_a_time
from fedcli.cli.options.parsing import parse_rounds
from fedcli.cli.options.sections import MachineOptions, ReadingOptions
from fedcli.cli.options.shared import FORCE, OWN_MODEL, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE, Option
from fedcli.run import Run


@shown(
    "--round --id --clients --data --run",
    "fedcli evaluate",
    "fedcli evaluate --round all --clients",
)
def evaluate(
    run: Path = RUN,
    round_: Annotated[
        str,
        Option(
            "The round: a number, `latest`, or `all`.",
            "N",
            word="--round",
            names=lambda: ("latest", "all"),
        ),
    ] = "latest",
    ids: list[str] | None = typer.Option(
        None,
        "--id",
        help="Score these clients' updates instead of the global model.",
        metavar="IDS",
    ),
    personal: bool = typer.Option(
        False,
        "--personal",
        help="Score personal models, of all clients or of --id, each on its client's data.",
    ),
    state: Path | None = typer.Option(
        None, help="Where the clients' state is [in the run]", metavar="DIR"
    ),
    clients: bool = typer.Option(
        False, "--clients", help="Score on each client's own test data, else its held-out examples."
    ),
    data: str | None = typer.Option(
        None, "--data", help="Score on another folder of pictures or npz file.", metavar="PATH"
    ),
    reading: ReadingOptions = NONE,
    classes: str | None = typer.Option(
        None, "--classes", help="Score only on examples of these classes.", metavar="NAMES"
    ),
    machine: MachineOptions = NONE,
    own_model: str | None = OWN_MODEL,
    store: bool | None = typer.Option(
        None,
        "--store/--no-store",
        help="Store the new scores in the run, or only print them. (default: store them, but not"
        " those that tell of a client that a private run protects)",
    ),
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Score a global model, clients' updates, or their personal models, on test data."""
    from fedcli.cli.render.evaluate import render
    from fedcli.cli.render.next import report_lines
    from fedcli.steps.evaluate import evaluate as step

    opened = Run.open(run)
    with Output("evaluate", printing) as output:
        result = step(
            opened,
            rounds=parse_rounds(round_),
            clients=one_a_time(ids or ()),
            personal=personal,
            on_clients=clients,
            data=data,
            reading=reading,
            classes=None if classes is None else tuple(filter(None, names_with_commas(classes))),
            state=state,
            **machine,
            own_model=own_model,
            store=store,
            force=force,
            progress=output,
        )
        output.result(result, lambda result: render(result, report_lines(opened)))
