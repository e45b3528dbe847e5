"""Small runs made without torch, and the program as its users call it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo

ROLES = {
    "bn.running_mean": Role.BUFFER,
    "bn.num_batches_tracked": Role.COUNTER,
}


def tensors(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """A small state_dict with every role and a shape ()."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.standard_normal((8, 3, 3, 3), dtype=np.float32),
        "fc.weight": rng.standard_normal((4, 8), dtype=np.float32),
        "fc.bias": rng.standard_normal(4, dtype=np.float32),
        "scale": np.float32(rng.standard_normal()).reshape(()),
        "bn.running_mean": rng.standard_normal(8, dtype=np.float32),
        "bn.num_batches_tracked": np.int64(seed).reshape(()),
    }


def run_info(clients: tuple[str, ...] = ("0", "1", "2")) -> RunInfo:
    """A run of four classes of 8×8 colour pictures."""
    return RunInfo(
        dataset=DatasetInfo("handmade", ("ant", "bee", "cat", "dog"), (3, 8, 8)),
        model=ModelInfo("linear"),
        seed=0,
        clients=clients,
        plan=Plan(),
        origin={"scheme": "none"},
    )


def deliver(
    run: Run, client: str, values: dict[str, Any], *, round_number: int = 1, **changes: Any
) -> str:
    """Write the update of one client, changed as asked, and return its SHA-256."""
    metadata = Metadata(
        Kind.UPDATE,
        run.id,
        round=round_number,
        client=client,
        num_examples=10 + int(client) if client.isdecimal() else 10,
        base=digest(run.round(round_number - 1).global_model),
        roles=ROLES,
        training=TrainingRecord(epochs=1),
        seed=0,
    )
    path = run.round(round_number).update(client)
    return save(path, values, replace(metadata, **recorded(changes)))


def training_record(values: Mapping[str, Any]) -> TrainingRecord:
    """What an update records, by its keys in the file; values may be of wrong types."""
    known = {f.name for f in fields(TrainingRecord)} - {"options"}
    given = {key: value for key, value in values.items() if key in known}
    return TrainingRecord(**given, options={k: v for k, v in values.items() if k not in known})


def recorded(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of metadata, of which ``training`` may be what is to stand in the file."""
    if isinstance(training := changes.get("training"), Mapping):
        return changes | {"training": TrainingRecord(options=training)}
    return changes


class Finished:
    """A finished process: its status and what it printed."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        assert value["schema"] == 1
        return value


def fedcli(*arguments: object, cwd: Path, **environment: str) -> Finished:
    """Run the program as a process of its own, as a user does."""
    command = [sys.executable, "-m", "fedcli", *map(str, arguments)]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("FEDCLI_")}
    return Finished(
        subprocess.run(
            command,
            cwd=cwd,
            env={**variables, "COLUMNS": "80", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    )
