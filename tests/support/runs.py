"""Small runs made without torch, and the program as its users call it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.steps.aggregate import AggregateResult
from support import warm
from support.thorough import THOROUGH

ROLES = {"bn.running_mean": Role.BUFFER, "bn.num_batches_tracked": Role.COUNTER}


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


def accepted(result: AggregateResult) -> list[str]:
    """The clients whose updates are in a model."""
    return [client.client for client in result.clients]


@dataclass(frozen=True)
class Finished:
    """A finished process: its status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        assert value["schema"] == 1
        return value


def fedcli(*arguments: object, cwd: Path, **environment: str) -> Finished:
    """Run the program as a user does, in a fork; in a thorough run in a process of its own."""
    if THOROUGH:
        return new_fedcli(*arguments, cwd=cwd, **environment)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        words = list(map(str, arguments))
        status = warm.run(words, cwd, _variables(environment), out, err)
        out.seek(0)
        err.seek(0)
        return Finished(status, out.read(), err.read())


def new_fedcli(*arguments: object, cwd: Path, **environment: str) -> Finished:
    """Run the program as a process of its own, which imports all that it needs."""
    return _finished(["-m", "fedcli", *arguments], cwd, _variables(environment))


def python(code: str, *arguments: object, cwd: Path | None = None) -> Finished:
    """Run Python code in a process of its own."""
    return _finished(["-B", "-c", code, *arguments], cwd, None)


def _finished(
    words: Sequence[object], cwd: Path | None, variables: dict[str, str] | None
) -> Finished:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def _variables(more: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FEDCLI_")}
    return {**own, "COLUMNS": "80", **more}
