"""What a client notes of its training beside the update: times, device, memory, losses."""

import socket
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from fedcli.training import Epoch
from fedcli.training.devices import device_memory, peak_memory


def telemetry(
    epochs: Sequence[Epoch],
    personal: Sequence[Epoch],
    *,
    seconds: float,
    device: torch.device,
    threads: int,
    micro_batch: int | None,
) -> dict[str, Any]:
    """Return the volatile facts of a training, as the update's JSON file holds them."""
    values = {
        "seconds": seconds,
        "images_per_second": images_per_second([*epochs, *personal]),
        "host": socket.gethostname(),
        "device": str(device),
        "threads": threads,
        "peak_memory_bytes": peak_memory(device),
        "device_memory_bytes": device_memory(device),
        "micro_batch": micro_batch,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "epochs": [_figures(epoch) for epoch in epochs],
        "personal_epochs": [_figures(epoch) for epoch in personal],
    }
    return {key: value for key, value in values.items() if value not in (None, [])}


def images_per_second(epochs: Sequence[Epoch]) -> float:
    """Return how many examples were trained with a second."""
    return sum(epoch.examples for epoch in epochs) / sum(epoch.seconds for epoch in epochs)


def _figures(epoch: Epoch) -> dict[str, Any]:
    values = asdict(epoch)
    del values["examples"]
    return values
