"""The options of local training, which the plan of a run sets and a step can override."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from fedcli.cli.groups import Group
from fedcli.cli.options import comma_list

_option = partial(typer.Option, rich_help_panel="Training")


@dataclass(frozen=True)
class TrainingOptions(Group):
    """Section ``train`` of the plan; None is what the plan says."""

    epochs: Annotated[
        int | None, _option(help="Local epochs a round. (default: 5)", metavar="N")
    ] = None
    lr: Annotated[float | None, _option(help="Learning rate. (default: 0.01)", metavar="RATE")] = (
        None
    )
    batch_size: Annotated[
        int | None, _option(help="Examples a batch. (default: 64)", metavar="N")
    ] = None
    momentum: Annotated[
        float | None, _option(help="Momentum of SGD. (default: 0.9)", metavar="M")
    ] = None
    weight_decay: Annotated[
        float | None, _option(help="Weight decay (L2). (default: 0)", metavar="W")
    ] = None
    augment: Annotated[
        str | None,
        _option(
            help="Augmentation: flip, crop, both with a comma, or none. (default: none)",
            metavar="NAMES",
        ),
    ] = None
    initial_loss: Annotated[
        bool | None,
        _option(
            help="Record the loss of the model that training starts from, which q-FedAvg needs."
            " (default: no)",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the values that were typed, by the plan's keys; augmentations as a tuple."""
        values = super().given()
        if self.augment is not None:
            values["augment"] = comma_list("" if self.augment == "none" else self.augment)
        return values
