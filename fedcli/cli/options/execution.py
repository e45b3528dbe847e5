"""How local training is executed: options of ``train-client`` that ``run`` passes on."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.options.groups import Group

_option = partial(typer.Option, rich_help_panel="Execution")


@dataclass(frozen=True)
class ExecutionOptions(Group):
    """None is what suits the machine."""

    micro_batch: Annotated[
        int | None,
        _option(
            min=1,
            help="Put N examples through at a time; gradients add up to the whole batch's. By"
            " default as many as fit.",
            metavar="N",
        ),
    ] = None
    gpu_memory_fraction: Annotated[
        float | None,
        _option(
            min=0.01,
            max=1.0,
            help="Take at most this share of a GPU's memory, so that several clients share it.",
            metavar="F",
        ),
    ] = None
    compile: Annotated[
        bool | None,
        _option("--compile", help="Compile the network first (torch.compile); wants a compiler."),
    ] = None
    checkpoint_every: Annotated[
        int | None,
        _option(
            min=1,
            help="Keep the training after every N epochs; the same command then goes on from"
            " there when it was interrupted.",
            metavar="N",
        ),
    ] = None
    state: Annotated[
        Path | None,
        _option(
            help="Where this client keeps its state, which an algorithm may need in the next"
            " round; by default in the run.",
            metavar="DIR",
        ),
    ] = None
