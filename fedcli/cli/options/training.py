"""The options of local training, which the plan of a run sets and a step can override."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from fedcli.cli.options.groups import Group
from fedcli.cli.options.shared import comma_list

_option = partial(typer.Option, rich_help_panel="Training")
_rate = partial(typer.Option, rich_help_panel="Learning rate over rounds")
_algorithm = partial(typer.Option, rich_help_panel="Local algorithm")
_layers = partial(typer.Option, rich_help_panel="Layers")

# Given as one text with commas; ``none`` is the empty list.
_LISTS = ("augment", "local_layers", "freeze")


@dataclass(frozen=True)
class TrainingOptions(Group):
    """Section ``train`` of the plan; None is what the plan says."""

    epochs: Annotated[
        int | None, _option(help="Local epochs a round. (default: 5)", metavar="N")
    ] = None
    steps: Annotated[
        int | None, _option(help="Local steps a round, in place of epochs.", metavar="N")
    ] = None
    lr: Annotated[float | None, _option(help="Learning rate. (default: 0.01)", metavar="RATE")] = (
        None
    )
    batch_size: Annotated[
        int | None, _option(help="Examples a batch. (default: 64)", metavar="N")
    ] = None
    optimizer: Annotated[
        str | None, _option(help="sgd, adam or adamw. (default: sgd)", metavar="NAME")
    ] = None
    momentum: Annotated[
        float | None, _option(help="Momentum of SGD, or β₁ of Adam. (default: 0.9)", metavar="M")
    ] = None
    weight_decay: Annotated[
        float | None,
        _option(help="Weight decay: L2, or decoupled with adamw. (default: 0)", metavar="W"),
    ] = None
    clip_grad: Annotated[
        float | None, _option(help="Scale gradients down to this norm.", metavar="NORM")
    ] = None
    label_smoothing: Annotated[
        float | None, _option(help="Share of the label that all classes get.", metavar="E")
    ] = None
    augment: Annotated[
        str | None,
        _option(
            help="Augmentation: flip, crop, cutout, several with commas, or none. (default: none)",
            metavar="NAMES",
        ),
    ] = None
    mixup: Annotated[
        float | None,
        _option(help="Blend pairs of examples, by shares from Beta(A, A).", metavar="A"),
    ] = None
    precision: Annotated[
        str | None,
        _option(help="fp32, or bf16 or fp16 by autocast. (default: fp32)", metavar="NAME"),
    ] = None
    initial_loss: Annotated[
        bool | None,
        _option(
            help="Record the loss of the model that training starts from, which q-FedAvg needs."
            " (default: no)",
        ),
    ] = None
    lr_schedule: Annotated[
        str | None,
        _rate(help="constant, cosine, step or exponential. (default: constant)", metavar="NAME"),
    ] = None
    lr_rounds: Annotated[
        int | None, _rate(help="cosine: rounds until the rate is near 0.", metavar="N")
    ] = None
    lr_every: Annotated[
        int | None, _rate(help="step: rounds from one decay to the next.", metavar="N")
    ] = None
    lr_decay: Annotated[
        float | None, _rate(help="step, exponential: factor of a decay.", metavar="F")
    ] = None
    lr_warmup: Annotated[
        int | None, _rate(help="Rounds in which the rate climbs to its full value.", metavar="N")
    ] = None
    algorithm: Annotated[
        str | None,
        _algorithm(
            help="fedavg, fedprox, scaffold, fednova, fedbn, feddyn, moon or ditto."
            " (default: fedavg)",
            metavar="NAME",
        ),
    ] = None
    mu: Annotated[
        float | None,
        _algorithm(
            help="Weight of the term of fedprox (default: 0.01) or moon (default: 1).",
            metavar="MU",
        ),
    ] = None
    proximal: Annotated[
        float | None,
        _algorithm(help="Add FedProx's term, with this μ, to the algorithm.", metavar="MU"),
    ] = None
    scaffold_option: Annotated[
        int | None,
        _algorithm(
            help="scaffold: control variate from the gradient at the start (1), or from the way"
            " (2). (default: 2)",
            metavar="N",
        ),
    ] = None
    feddyn_alpha: Annotated[
        float | None, _algorithm(help="feddyn: its α. (default: 0.01)", metavar="A")
    ] = None
    temperature: Annotated[
        float | None, _algorithm(help="moon: its τ. (default: 0.5)", metavar="T")
    ] = None
    ditto_lambda: Annotated[
        float | None,
        _algorithm(
            help="ditto: pull of the global model on the personal one. (default: 0.1)",
            metavar="L",
        ),
    ] = None
    local_layers: Annotated[
        str | None,
        _layers(
            help="Layers that stay with the client, such as 'fc' or 'layer4.*.bn1,fc'.",
            metavar="PATTERNS",
        ),
    ] = None
    head_epochs: Annotated[
        int | None,
        _layers(
            help="Train these layers alone first, for N epochs, then the others (FedRep).",
            metavar="N",
        ),
    ] = None
    freeze: Annotated[
        str | None,
        _layers(
            help="Layers that are not trained, not sent and not averaged, such as 'conv1,layer1',"
            " or '*,!fc' for all but one.",
            metavar="PATTERNS",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the values that were typed, by the plan's keys; lists as tuples."""
        values = super().given()
        for name in _LISTS:
            if name in values:
                values[name] = comma_list("" if values[name] == "none" else values[name])
        return values
