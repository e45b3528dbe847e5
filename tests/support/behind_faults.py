"""``fedcli`` behind the layer of ``faults``, and what became of the directory that it worked in."""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.execution.local import Launch
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind
from fedcli.run import Run
from fedcli.steps.status import status
from fedcli.steps.verify import verify
from fedcli.storage.atomic import canonical_json, read_json
from support.faults import Fault
from support.warm import server

_PASSING = re.compile(r"\.tmp(/|$)|/training/[^/]+\.json$|/receipts\.json$")
_VOLATILE = {"seconds", "images_per_second", "peak_memory_bytes", "created"}
Contents = dict[str, bytes]


@dataclass(frozen=True)
class Ended:
    """How a command ended; a negative status is a signal's. ``calls`` changed the file system."""

    status: int
    out: str
    err: str
    calls: list[str]


class Commands:
    """Runs commands in forks of one process, which has imported all that they need.

    ``scenes`` is for folders that several tests start from a copy of.
    """

    def __init__(self, scenes: Path) -> None:
        self.scenes = scenes

    def __call__(self, folder: Path, *words: object, **fault: Any) -> Ended:
        """Run one to its end, and to that of all processes that came of it, in ``folder``."""
        with tempfile.NamedTemporaryFile(mode="r") as log, tempfile.TemporaryFile() as out:
            spec = Fault(str(folder), log.name, **fault).as_json()
            reading, writing = os.pipe()  # its end tells that all of them are gone
            with os.fdopen(reading, "rb") as said:
                with os.fdopen(writing, "wb") as err:
                    asked = ["support", "faults", spec, *map(str, words)]
                    status = server().run(Launch(asked, out, err))
                err_text = said.read().decode()
            out.seek(0)
            calls = [line.strip() for line in log.read().splitlines()]
            assert not [call for call in calls if call.startswith("UNSEEN")], calls
            return Ended(status, out.read().decode(), err_text, calls)


def contents(folder: Path) -> Contents:
    """Every file with its bytes; of telemetry and manifests without what is volatile.

    Temporary files are not among them, nor is what a process tells while it trains.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = ((str(path.relative_to(folder)), path) for path in files)
    return {name: _lasting(path) for name, path in names if not _PASSING.search(name)}


def _lasting(path: Path) -> bytes:
    if path.suffix != ".json" or "rounds" not in path.parts:
        return path.read_bytes()
    return canonical_json(_without(read_json(path)))


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_without(item) for item in value]
    return value


def state_of(folder: Path) -> bytes:
    """All that the file system holds, so that two states that are equal are known to be."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = re.sub(r"\.[^.]+\.tmp", ".tmp", str(path.relative_to(folder)))
        found.append((name, _lasting(path).hex() if path.is_file() else None))
    return canonical_json(found)


def leftovers(folder: Path) -> list[str]:
    """The temporary files and directories that somebody left."""
    return [str(p) for p in folder.rglob("*.tmp")]


def check_readable(root: Path) -> None:
    """The run at ``root`` can be read, its models too, and is sound; or there is none yet."""
    if not (root / "run.json").exists():
        return
    run = Run.open(root)
    status(run)
    for round_ in run.complete_rounds():
        with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
            model.tensors()
    result = verify(root)
    assert result.sound, result.findings


def restore(folder: Path, before: Path) -> None:
    """Make ``folder`` what it was."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
