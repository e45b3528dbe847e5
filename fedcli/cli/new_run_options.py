"""The options that ``partition`` and ``init`` share: the model that a run starts from, its plan."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fedcli.cli.options import augmentations
from fedcli.plan import Plan, updated

_MODEL = "Model"
ModelOption = Annotated[
    str,
    typer.Option(
        help="cnn, linear, resnet18, a torchvision classifier, or package.module:factory.",
        rich_help_panel=_MODEL,
        metavar="NAME",
    ),
]
StemOption = Annotated[
    str,
    typer.Option(
        help="First layers of resnet18: imagenet, or cifar (3×3, no max-pool).",
        rich_help_panel=_MODEL,
        metavar="NAME",
    ),
]
NormOption = Annotated[
    str,
    typer.Option(
        help="Normalisation layers of resnet18: batch or group.",
        rich_help_panel=_MODEL,
        metavar="NAME",
    ),
]
InitFromOption = Annotated[
    Path | None,
    typer.Option(
        help="Start from the weights in a .safetensors or .pth file. The last layer is kept when"
        " it has the same number of classes, else drawn anew.",
        rich_help_panel=_MODEL,
        metavar="FILE",
    ),
]
PretrainedOption = Annotated[
    bool,
    typer.Option(
        "--pretrained",
        help="Start from torchvision's ImageNet weights. The last layer is drawn anew, unless"
        " there are 1000 classes.",
        rich_help_panel=_MODEL,
    ),
]
NormalizeOption = Annotated[
    str | None,
    typer.Option(
        help="Mean and deviation of pixels: half (0.5, 0.25) or imagenet."
        " (default: half; imagenet with --pretrained)",
        rich_help_panel=_MODEL,
        metavar="NAME",
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(help="Read the run's plan from a TOML file.", metavar="FILE"),
]
NewSeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The seed of the run.", metavar="N")
]


def make_plan(
    file: Path | None, augment: str | None, weighting: str | None, **training: Any
) -> Plan:
    """Build the run's plan: the built-in one, then the file's, then what options say."""
    plan = Plan() if file is None else Plan.from_toml(file)
    train = updated(plan.train, {**training, "augment": augmentations(augment)})
    return replace(plan, train=train, aggregate=updated(plan.aggregate, {"weighting": weighting}))
