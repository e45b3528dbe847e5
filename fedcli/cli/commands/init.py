"""``fedcli init``: a run without data."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.building import make_start
from fedcli.cli.options.parsing import parse_classes, parse_clients, parse_members
from fedcli.cli.options.plan_file import PlanFile
from fedcli.cli.options.sections import (
    AggregationOptions,
    MaskingOptions,
    ModelOptions,
    SeedOptions,
    TrainingOptions,
)
from fedcli.cli.options.shared import COMMITTED_KEY, FORCE, PLAN, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE, Given
from fedcli.run import Run

_OF_PICTURES = {"image_size", "window"}  # of [data]


@shown(
    "--classes --clients --model --image-size --epochs --lr --run",
    "fedcli init --classes benign,malignant --clients 5 --model resnet18",
)
def init(
    run: Path = RUN,
    num_classes: int | None = typer.Option(
        None, min=2, help="Number of classes, which are called 0, 1, …", metavar="N"
    ),
    classes: str | None = typer.Option(
        None,
        help="Names of the classes, in order, such as benign,malignant, or @FILE with one per"
        " line.",
        metavar="NAMES",
    ),
    clients: str | None = typer.Option(
        None,
        "--clients",
        "--num-clients",
        help="Number of clients, which are called 0, 1, …, or their names with commas"
        " [any client may take part]",
        metavar="N|NAMES",
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
    secagg: MaskingOptions = NONE,
    image_size: int | None = typer.Option(
        None, min=4, max=4096, help="Each client scales its pictures to N×N [32]", metavar="N"
    ),
    channels: int = typer.Option(
        3, help="Channels of the pictures: 3 (RGB) or 1 (grey).", metavar="N"
    ),
    window: str | None = typer.Option(
        None,
        help="Each client maps pixel values LOW … HIGH to black … white, and cuts off the rest; for"
        " pictures of more than 8 bits, such as CT [8-bit pixels as they are]",
        metavar="LOW,HIGH",
    ),
    remote: str | None = typer.Option(
        None,
        help="Where push and pull go if they are not told: a URL, or an absolute folder.",
        metavar="REMOTE",
    ),
    model: ModelOptions = NONE,
    plan: Path | None = PLAN,
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    noise_key: Path | None = COMMITTED_KEY,
    seed: SeedOptions = NONE,
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Make a run without data, for clients that each hold their own pictures."""
    from fedcli.cli.render.init import render
    from fedcli.steps.init import init as step

    file = PlanFile.read(plan)
    (start,) = file.build(
        lambda file: make_start(
            file.model(model),
            file.plan(training, aggregation),
            file.seed(seed),
            file.masking(secagg),
        )
    )
    with Output("init", printing) as output:
        for line in _unused(file):
            output.say(line)
        result = step(
            run,
            parse_classes(num_classes, classes),
            clients=parse_clients(clients),
            members=parse_members(members or ()),
            key=key,
            noise_key=noise_key,
            channels=channels,
            remote=remote,
            **_pictures(file, image_size, window),
            start=start,
            force=force,
        )
        opened = Run.open(run)
        output.result(result, lambda result: render(result, opened))


def _pictures(file: PlanFile, image_size: int | None, window: str | None) -> Given:
    """Return how clients read their pictures, which the data of a file may say."""
    typed = {"image_size": image_size, "window": window}
    of_file = {key: value for key, value in file.of("data").items() if key in _OF_PICTURES}
    return {**of_file, **{key: value for key, value in typed.items() if value is not None}}


def _unused(file: PlanFile) -> list[str]:
    unused = [name for name in ("data", "partition") if file.of(name).keys() - _OF_PICTURES]
    return file.unused(unused, "clients bring their own data")
