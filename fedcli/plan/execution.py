"""How training and scoring are executed, which should not affect the result."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.options import check, option

_DEVICES = ("auto", "cpu", "cuda", "cuda:", "mps")  # torch may know further kinds


@dataclass(frozen=True)
class Machine:
    """The device and the threads that torch uses."""

    device: str = option(
        "auto",
        "`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:N` or `mps`.",
        "NAME",
        names=lambda: _DEVICES,
    )
    threads: int | None = option(None, "CPU threads.", "N", at_least=1, unset="all cores")

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        check(self)


@dataclass(frozen=True)
class Execution(Machine):
    """How local training is executed; None lets the machine decide."""

    micro_batch: int | None = option(
        None,
        "Process N examples of a batch at a time; the gradients add up to those of the batch.",
        "N",
        at_least=1,
        unset="the whole batch, or as many as fit",
    )
    gpu_memory_fraction: float | None = option(
        None,
        "Use at most this share of an NVIDIA GPU's memory, 0.01 to 1, so that clients can"
        " share it.",
        "F",
        at_least=0.01,
        at_most=1,
        what="share",
        unset="all of it",
    )
    compile: bool = option(
        False, "Compile the network first with `torch.compile`; needs a C++ compiler.", flag=True
    )
    checkpoint_every: int | None = option(
        None,
        "Save a training checkpoint every N epochs; after an interruption, the same command"
        " resumes from it.",
        "N",
        at_least=1,
    )
    state: Path | None = option(
        None,
        "Folder for what this client keeps from round to round, and for training checkpoints.",
        "DIR",
        unset="in the run",
    )
    stream: bool = option(
        False, "Decode `--data` batch by batch, where it does not fit into memory.", flag=True
    )
    num_workers: int | None = option(
        None,
        "Processes that decode for `--stream`; 0 decodes in the training process.",
        "N",
        at_least=0,
        unset="one per core, at most 4",
    )
