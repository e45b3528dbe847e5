"""``fedcli init``: a run without data."""

from pathlib import Path

import typer

from fedcli.cli.options.building import make_plan, make_start
from fedcli.cli.options.groups import comma_list
from fedcli.cli.options.parsing import parse_classes, parse_members
from fedcli.cli.options.sections import AggregationOptions, ModelOptions, TrainingOptions
from fedcli.cli.options.shared import FORCE, NEW_SEED, PLAN, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE
from fedcli.run import Run


def init(
    run: Path = RUN,
    num_classes: int | None = typer.Option(
        None, min=2, help="Number of classes, which are called 0, 1, …", metavar="N"
    ),
    classes: str | None = typer.Option(
        None, help="Names of the classes, in order, such as benign,malignant."
    ),
    clients: str | None = typer.Option(
        None, help="Names of the clients. (default: any client may take part)", metavar="NAMES"
    ),
    members: list[str] | None = typer.Option(
        None,
        "--member",
        help="A client and its public key, as keygen prints it: only updates that it signed"
        " count. Can be repeated; replaces --clients.",
        metavar="ID=KEY",
    ),
    key: Path | None = typer.Option(
        None,
        "--key",
        help="The coordinator's private key (fedcli keygen), which signs global models.",
        metavar="FILE",
    ),
    image_size: int = typer.Option(
        32, min=4, max=4096, help="Each client scales its pictures to N×N.", metavar="N"
    ),
    channels: int = typer.Option(
        3, help="Channels of the pictures: 3 (RGB) or 1 (grey).", metavar="N"
    ),
    window: str | None = typer.Option(
        None,
        help="Each client maps pixel values LOW … HIGH to black … white, and cuts off the rest; for"
        " pictures of more than 8 bits, such as CT. (default: 8-bit pixels as they are)",
        metavar="LOW,HIGH",
    ),
    model: ModelOptions = NONE,
    plan: Path | None = PLAN,
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    seed: int = NEW_SEED,
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Make a run without data, for clients that each hold their own pictures."""
    from fedcli.cli.render.init import render
    from fedcli.steps.init import init as step

    start = make_start(model, make_plan(plan, training, aggregation), seed)
    with Output("init", printing) as output:
        result = step(
            run,
            parse_classes(num_classes, classes),
            clients=comma_list(clients or ""),
            members=parse_members(members or ()),
            key=key,
            image_size=image_size,
            channels=channels,
            window=window,
            start=start,
            force=force,
        )
        opened = Run.open(run)
        output.result(result, lambda result: render(result, opened))
