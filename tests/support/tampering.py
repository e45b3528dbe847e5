"""Changing the files of a run, as an accident or a hostile participant does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.run import Run
from fedcli.storage.atomic import write_json
from support.runs import deliver, recorded, tensors


def send(run: Run, client: str, number: int, **changes: Any) -> None:
    """Write an update and its telemetry."""
    values = tensors(100 * number + int(client))
    sha256 = deliver(run, client, values, round_number=number, **changes)
    write_json(
        run.round(number).telemetry(client),
        {"format": 1, "client": client, "round": number, "sha256": sha256},
    )


def flip(path: Path, offset: int = -1) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file as a text editor does."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def resave(path: Path, values: dict[str, Any] | None = None, **changes: Any) -> None:
    """Write a checkpoint with other tensors, or another description."""
    with Checkpoint(path) as checkpoint:
        kept, metadata = checkpoint.tensors(), checkpoint.metadata
    save(path, kept if values is None else values, replace(metadata, **recorded(changes)))


def poisoned(name: str, value: float) -> dict[str, Any]:
    """The tensors of an update with one bad value."""
    values = tensors(2)
    values[name] = values[name].copy()
    values[name].reshape(-1)[0] = value
    return values
