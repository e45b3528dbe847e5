"""How training and scoring are executed, which is not meant to change what is learned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fedcli.options import Option, check


@dataclass(frozen=True)
class Machine:
    """Where torch computes."""

    device: Annotated[str, Option("auto, cpu, cuda, cuda:N or mps.", "NAME")] = "auto"
    threads: Annotated[int | None, Option("CPU threads.", "N", at_least=1, unset="all cores")] = (
        None
    )

    def __post_init__(self) -> None:
        """Refuse values out of range (``UsageError``)."""
        check(self)


@dataclass(frozen=True)
class Execution(Machine):
    """How local training is executed; None is what suits the machine."""

    micro_batch: Annotated[
        int | None,
        Option(
            "Put N examples through at a time; gradients add up to the whole batch's.",
            "N",
            at_least=1,
            unset="as many as fit",
        ),
    ] = None
    gpu_memory_fraction: Annotated[
        float | None,
        Option(
            "Take at most this share of a GPU's memory, so that several clients share it.",
            "F",
            at_least=0.01,
            at_most=1,
            what="share",
        ),
    ] = None
    compile: Annotated[
        bool,
        Option("Compile the network first (torch.compile); wants a compiler.", flag=True),
    ] = False
    checkpoint_every: Annotated[
        int | None,
        Option(
            "Keep the training after every N epochs; the same command then goes on from there when"
            " it was interrupted.",
            "N",
            at_least=1,
        ),
    ] = None
    state: Annotated[
        Path | None,
        Option(
            "Where this client keeps its state, which an algorithm may need in the next round.",
            "DIR",
            unset="in the run",
        ),
    ] = None
    stream: Annotated[
        bool,
        Option(
            "Decode --data batch by batch, where it is too large to be held in memory.", flag=True
        ),
    ] = False
    num_workers: Annotated[
        int | None,
        Option(
            "Processes that decode for --stream.",
            "N",
            at_least=0,
            unset="up to 4, one a core",
        ),
    ] = None
