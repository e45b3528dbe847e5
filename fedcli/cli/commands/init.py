"""``fedcli init``: a run without data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.options.building import make_plan, make_start
from fedcli.cli.options.sections import AggregationOptions, ModelOptions, TrainingOptions
from fedcli.cli.options.shared import (
    ForceOption,
    NewSeedOption,
    OutputOptions,
    PlanOption,
    RunOption,
)
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE
from fedcli.run import DEFAULT_RUN
from fedcli.text import brief

if TYPE_CHECKING:
    from fedcli.steps.init import InitResult


def init(
    run: RunOption = DEFAULT_RUN,
    num_classes: Annotated[
        int | None,
        typer.Option(min=2, help="Number of classes, which are called 0, 1, …", metavar="N"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the classes, in order, such as benign,malignant."),
    ] = None,
    clients: Annotated[
        str | None,
        typer.Option(
            help="Names of the clients. (default: any client may take part)", metavar="NAMES"
        ),
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option(
            "--member",
            help="A client and its public key, as keygen prints it: only updates that it signed"
            " count. Can be repeated; in place of --clients.",
            metavar="ID=KEY",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            help="The coordinator's private key (fedcli keygen): global models are signed with it.",
            metavar="FILE",
        ),
    ] = None,
    image_size: Annotated[
        int,
        typer.Option(min=4, max=4096, help="Pictures are made N×N.", metavar="N"),
    ] = 32,
    channels: Annotated[
        int, typer.Option(help="Channels of the pictures: 3 (RGB) or 1 (grey).", metavar="N")
    ] = 3,
    model: ModelOptions = NONE,
    plan: PlanOption = None,
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    seed: NewSeedOption = 0,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Make a run without data, for clients that each hold their own pictures."""
    from fedcli.steps.init import init as step

    start = make_start(model, make_plan(plan, training, aggregation), seed)
    with Output("init", printing) as output:
        result = step(
            run,
            _class_names(num_classes, classes),
            clients=_names(clients),
            members=_members(members or ()),
            key=key,
            image_size=image_size,
            channels=channels,
            start=start,
            force=force,
        )
        output.result(result, _render)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _members(texts: Sequence[str]) -> dict[str, str]:
    """Read ``ID=KEY``, each for another client."""
    members: dict[str, str] = {}
    for text in texts:
        client, separator, key = text.partition("=")
        if not separator:
            raise UsageError(
                f"--member: expected ID=KEY, found {brief(text)}",
                hint="fedcli keygen FILE makes a key and prints its public part",
            )
        if client in members:
            raise UsageError(f"--member: names {brief(client)} twice")
        members[client] = key
    return members


def _class_names(number: int | None, text: str | None) -> tuple[str, ...]:
    names = _names(text)
    if not names and number is None:
        raise UsageError(
            "--classes: say which classes there are, or how many with --num-classes",
            hint="fedcli init --classes benign,malignant",
        )
    if not names:
        return tuple(str(index) for index in range(number or 0))
    if number not in (None, len(names)):
        raise UsageError(f"--num-classes {number}: --classes names {len(names)}")
    return names


def _render(result: "InitResult") -> list[RenderableType]:
    done = "already done: nothing changed" if result.already_done else "ready"
    channels, height, width = result.shape
    colour = "RGB" if channels == 3 else "grey"
    signed = [
        *([f"updates are signed by: {', '.join(result.members)}"] if result.members else []),
        *([f"global models are signed by {result.coordinator}"] if result.coordinator else []),
    ]
    return [
        f"{result.run}: {done}",
        f"{result.model}; {len(result.classes)} classes: {', '.join(result.classes)};"
        f" {colour} pictures of {width}×{height}; clients:"
        f" {', '.join(result.clients) or 'any'}",
        *signed,
        "",
        f"next: {result.next}",
    ]
