"""The options that several commands share; each has one meaning everywhere."""

from pathlib import Path
from typing import Annotated

import typer

RunOption = Annotated[
    Path,
    typer.Option("--run", "-r", envvar="FEDCLI_RUN", help="The run directory.", metavar="DIR"),
]
RoundOption = Annotated[
    int | None,
    typer.Option("--round", help="The round; by default the open one.", metavar="N"),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback when it fails.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a result that was made from other inputs.")
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="The seed; by default that of the run.", metavar="N"),
]

_TRAINING = "Training"
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        help="Local epochs a round. (default: 5)",
        rich_help_panel=_TRAINING,
        metavar="N",
    ),
]
LrOption = Annotated[
    float | None,
    typer.Option(
        "--lr", help="Learning rate. (default: 0.01)", rich_help_panel=_TRAINING, metavar="RATE"
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Examples a batch. (default: 64)",
        rich_help_panel=_TRAINING,
        metavar="N",
    ),
]
MomentumOption = Annotated[
    float | None,
    typer.Option(
        "--momentum", help="Momentum of SGD. (default: 0.9)", rich_help_panel=_TRAINING, metavar="M"
    ),
]
WeightDecayOption = Annotated[
    float | None,
    typer.Option(
        "--weight-decay",
        help="Weight decay (L2). (default: 0)",
        rich_help_panel=_TRAINING,
        metavar="W",
    ),
]
AugmentOption = Annotated[
    str | None,
    typer.Option(
        "--augment",
        help="Augmentation: flip, crop, both with a comma, or none. (default: none)",
        rich_help_panel=_TRAINING,
        metavar="NAMES",
    ),
]
WeightingOption = Annotated[
    str | None,
    typer.Option(
        "--weighting",
        help="A client's weight: examples or uniform. (default: examples)",
        metavar="NAME",
    ),
]
MinClientsOption = Annotated[
    int | None,
    typer.Option(
        "--min-clients",
        min=1,
        help="Go on with this many updates; by default every client's is needed.",
        metavar="N",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Leave clients out: an id, a list (0,3) or a range (0-9); can be repeated.",
        metavar="ID",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="NAME"),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads; by default all cores.", metavar="N"),
]
OwnModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="FEDCLI_MODEL",
        help="package.module:factory, for a run of a model of your own; it must name the same.",
        metavar="NAME",
    ),
]


def comma_list(text: str) -> tuple[str, ...]:
    """Split ``a,b,c``; the empty string is the empty list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def augmentations(text: str | None) -> tuple[str, ...] | None:
    """Read ``--augment``; ``none`` is the empty list, None what the plan says."""
    return None if text is None else comma_list("" if text == "none" else text)
