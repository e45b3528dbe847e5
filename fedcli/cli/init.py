"""``fedcli init``: a run without data."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.new_run_options import (
    InitFromOption,
    ModelOption,
    NewSeedOption,
    NormalizeOption,
    NormOption,
    PlanOption,
    PretrainedOption,
    StemOption,
    make_plan,
)
from fedcli.cli.options import (
    AugmentOption,
    BatchSizeOption,
    DebugOption,
    EpochsOption,
    ForceOption,
    JsonOption,
    LrOption,
    MomentumOption,
    QuietOption,
    RunOption,
    WeightDecayOption,
    WeightingOption,
)
from fedcli.cli.output import Output
from fedcli.errors import UsageError
from fedcli.run import DEFAULT_RUN

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
    image_size: Annotated[
        int,
        typer.Option(min=4, max=4096, help="Pictures are made N×N.", metavar="N"),
    ] = 32,
    channels: Annotated[
        int, typer.Option(help="Channels of the pictures: 3 (RGB) or 1 (grey).", metavar="N")
    ] = 3,
    model: ModelOption = "cnn",
    stem: StemOption = "imagenet",
    norm: NormOption = "batch",
    init_from: InitFromOption = None,
    pretrained: PretrainedOption = False,
    normalize: NormalizeOption = None,
    plan: PlanOption = None,
    epochs: EpochsOption = None,
    lr: LrOption = None,
    batch_size: BatchSizeOption = None,
    momentum: MomentumOption = None,
    weight_decay: WeightDecayOption = None,
    augment: AugmentOption = None,
    weighting: WeightingOption = None,
    seed: NewSeedOption = 0,
    force: ForceOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a run without data, for clients that each hold their own pictures."""
    from fedcli.run_info import ModelInfo
    from fedcli.steps.init import init as step
    from fedcli.steps.new_run import Start

    the_plan = make_plan(
        plan,
        augment,
        weighting,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
    )
    start = Start(ModelInfo(model, stem, norm), init_from, pretrained, normalize, the_plan, seed)
    with Output("init", json=json, quiet=quiet) as output:
        result = step(
            run,
            _class_names(num_classes, classes),
            clients=_names(clients),
            image_size=image_size,
            channels=channels,
            start=start,
            force=force,
        )
        output.result(result, _render)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


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
    return [
        f"{result.run}: {done}",
        f"{result.model}; {len(result.classes)} classes: {', '.join(result.classes)};"
        f" {colour} pictures of {width}×{height}; clients:"
        f" {', '.join(result.clients) or 'any'}",
        "",
        f"next: {result.next}",
    ]
