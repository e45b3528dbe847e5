"""The options that ``partition`` and ``init`` share: the model that a run starts from, its plan."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcli.cli.options.aggregation import AggregationOptions
from fedcli.cli.options.groups import Group
from fedcli.cli.options.training import TrainingOptions
from fedcli.plan import Plan, asks_for_rule, check_halves, read_toml

if TYPE_CHECKING:
    from fedcli.setup.new_run import Start

_option = partial(typer.Option, rich_help_panel="Model")

PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="Read the run's plan from a TOML file.", metavar="FILE"),
]
NewSeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The seed of the run.", metavar="N")
]


@dataclass(frozen=True)
class ModelOptions(Group):
    """The model that the first round starts from."""

    model: Annotated[
        str,
        _option(
            help="cnn, linear, resnet18, a torchvision classifier, or package.module:factory.",
            metavar="NAME",
        ),
    ] = "cnn"
    stem: Annotated[
        str,
        _option(
            help="First layers of resnet18: imagenet, or cifar (3×3, no max-pool).", metavar="NAME"
        ),
    ] = "imagenet"
    norm: Annotated[
        str,
        _option(help="Normalisation layers of resnet18: batch or group.", metavar="NAME"),
    ] = "batch"
    lora: Annotated[
        int | None,
        _option(
            help="Train adapters of this rank beside the weights (LoRA), and the last layer.",
            metavar="RANK",
        ),
    ] = None
    lora_alpha: Annotated[
        float | None,
        _option(help="LoRA: adapters count A / RANK times. (default: the rank)", metavar="A"),
    ] = None
    init_from: Annotated[
        Path | None,
        _option(
            help="Start from the weights in a .safetensors or .pth file. The last layer is kept"
            " when it has the same number of classes, else drawn anew.",
            metavar="FILE",
        ),
    ] = None
    pretrained: Annotated[
        bool,
        _option(
            "--pretrained",
            help="Start from torchvision's ImageNet weights. The last layer is drawn anew, unless"
            " there are 1000 classes.",
        ),
    ] = False
    normalize: Annotated[
        str | None,
        _option(
            help="Mean and deviation of pixels: half (0.5, 0.25) or imagenet."
            " (default: half; imagenet with --pretrained)",
            metavar="NAME",
        ),
    ] = None


def make_start(model: ModelOptions, plan: Plan, seed: int) -> "Start":
    """Build what a new run starts from. Raises ``UsageError``."""
    from fedcli.run.info import ModelInfo
    from fedcli.setup.new_run import Start

    network = ModelInfo(model.model, model.stem, model.norm, model.lora, model.lora_alpha)
    return Start(network, model.init_from, model.pretrained, model.normalize, plan, seed)


def make_plan(
    file: Path | None, training: TrainingOptions, aggregation: AggregationOptions
) -> Plan:
    """Build the run's plan: the built-in one, then the file's, then what options say.

    Raises ``UsageError``, also for a rule of aggregation that does not exist.
    """
    from fedcli.strategies import resolve

    values = {} if file is None else read_toml(file)
    plan, given = Plan.from_mapping(values, str(file)), aggregation.given()
    asked = asks_for_rule(values.get("aggregate", {}))
    plan = plan.with_options(training.given(), given, rule_asked_for=asked)
    rule = resolve(plan.aggregate, given.keys())
    check_halves(plan.train, rule.server_optimizer)
    if rule.weigher.needs_initial_loss and training.initial_loss is None:
        plan = replace(plan, train=replace(plan.train, initial_loss=True))
    return plan
