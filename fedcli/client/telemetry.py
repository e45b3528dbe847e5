"""The telemetry of a training, written next to its update: times, device, memory, losses."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from fedcli import system
from fedcli.client.local_training import Trained
from fedcli.client.session import Session
from fedcli.formats.telemetry import EpochFigures, Telemetry
from fedcli.training.devices import device_memory, peak_memory, processor_of
from fedcli.training.loop import Epoch


def telemetry(
    session: Session, client: str, examples: int, trained: Trained, elapsed: float
) -> Telemetry:
    """Describe a training that took ``elapsed`` seconds; its update has no SHA-256 yet."""
    return Telemetry(
        sha256="",
        client=client,
        round=session.round.number,
        num_examples=examples,
        seconds=elapsed,
        images_per_second=images_per_second([*trained.epochs, *trained.personal_epochs]),
        host=socket.gethostname(),
        device=str(session.device),
        processor=processor_of(session.device),
        threads=session.threads,
        peak_memory_bytes=peak_memory(session.device),
        device_memory_bytes=device_memory(session.device),
        micro_batch=trained.micro_batch,
        drawn=session.drawn,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        epochs=_figures(trained.epochs),
        personal_epochs=_figures(trained.personal_epochs),
    )


def versions() -> dict[str, str]:
    """Return the versions of the programs that an update depends on."""
    return {**system.versions(), "torch": torch.__version__}


def images_per_second(epochs: Sequence[Epoch]) -> float:
    """Return how many examples were processed per second."""
    return sum(epoch.examples for epoch in epochs) / sum(epoch.seconds for epoch in epochs)


def _figures(epochs: Sequence[Epoch]) -> tuple[EpochFigures, ...]:
    return tuple(EpochFigures(one.epoch, one.loss, one.accuracy, one.seconds) for one in epochs)
