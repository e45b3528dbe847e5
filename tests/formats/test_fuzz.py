"""Mutated files are refused by name, or read as what they say; steps on them end in an answer.

A wrong value would be one that the file does not hold. Beyond that there are two of whole runs: an
update that is not the one that its client noted beside it, and a global model that is not the mean
of the updates that its manifest names. An update whose bytes were changed, with no note of its
SHA-256, is another update: whether its author may send it is what signatures are for.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from support import fuzzing, said
from support.pages import TESTS
from support.thorough import times

from fedcli.cli import execute
from fedcli.formats.dtypes import DTYPES, as_float

HERE = Path(__file__).parent
COUNT = times(21_000, 10_500)
RUNS = times(200, 60)
MEMORY = 200_000_000


def test_files_are_refused_by_name_or_read_as_they_are() -> None:
    command = [sys.executable, "-m", "support.fuzzing", "--count", str(COUNT)]
    done = subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, timeout=1200, check=False
    )
    result = json.loads(done.stdout)
    assert (done.returncode, result["failures"]) == (0, [])
    assert result["peak_memory"] < MEMORY
    assert sum(result["counts"].values()) == COUNT
    for target in fuzzing.TARGETS:  # neither all are refused, nor all are taken
        for how in ("taken", "refused"):
            assert result["counts"][f"{target.path} {how}"] > COUNT / 420


# --- whole runs --------------------------------------------------------------------------------

CORPUS = {str(p.relative_to(fuzzing.CORPUS)): p.read_bytes() for p in fuzzing.CORPUS.rglob("*.*")}
UPDATES = [name for name in CORPUS if name.startswith("rounds/0002/updates/")]
COMMANDS = (
    ["aggregate", "--strategy", "fedavg", "--min-clients", "1"],
    ["aggregate"],
    ["status"],
    ["report"],
)
KINDS = {1: "failed", 2: "usage", 3: "not-ready", 4: "bad-input", 5: "conflict"}


def harm(rng: random.Random, root: Path, name: str) -> None:
    """Change one file of a run, or put something else in its place."""
    path = root / name
    kind = rng.random()
    if kind < 0.8:
        path.write_bytes(fuzzing.case(rng.random().hex(), fuzzing.Target(name, str), CORPUS))
        return
    path.unlink()
    if kind < 0.85:
        path.mkdir()
    elif kind < 0.88:
        os.mkfifo(path)
    elif kind < 0.93:
        path.symlink_to(
            rng.choice((root / rng.choice(UPDATES), Path("/etc/passwd"), Path("..") / "x"))
        )
    elif kind < 0.96:
        other = path.with_name(
            rng.choice(("..safetensors", "\x1b[2J.safetensors", "9" * 200, "-x"))
        )
        other.write_bytes(CORPUS[name])


def answer(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Run a command in this process, and check how it answers."""
    status = execute(words)
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1, out
    assert out.rstrip("\n").isprintable()
    assert "Traceback" not in err
    assert all(line.isprintable() for line in err.splitlines())
    result = json.loads(out)
    assert (status == 0) == ("error" not in result), result
    assert status in (0, 1, 2, 3, 4, 5)
    assert result.get("error", {}).get("kind") != "internal", result
    return status, result


def values_of(data: bytes) -> dict[str, Any]:
    found = {}
    for name, entry in safetensors.deserialize(data):
        dtype = DTYPES[entry["dtype"]]
        found[name] = as_float(np.frombuffer(entry["data"], dtype).reshape(entry["shape"]))
    return found


def check_mean(root: Path, result: dict[str, Any]) -> None:
    """The model is the mean of updates of this round, each as its client noted it."""
    rounds, number = root / "rounds", result["round"]
    updates, weights = [], []
    for client in result["clients"]:
        path = rounds / f"{number:04d}/updates/{client['client']}.safetensors"
        data = path.read_bytes()
        assert client["sha256"] == hashlib.sha256(data).hexdigest()
        noted = noted_sha256(path.with_suffix(".json"))
        assert noted in (None, client["sha256"])
        own = said.metadata_of(data)
        base = rounds / f"{number - 1:04d}/global.safetensors"
        assert (own["client"], own["round"]) == (client["client"], number)
        assert own["base"] == hashlib.sha256(base.read_bytes()).hexdigest()
        assert own["run"] == json.loads((root / "run.json").read_bytes())["id"]
        updates.append(values_of(data))
        weights.append(own["num_examples"])
    model = values_of((rounds / f"{number:04d}/global.safetensors").read_bytes())
    for name, value in model.items():
        if value.dtype.kind != "f":
            assert np.array_equal(value, np.max([update[name] for update in updates], axis=0))
            continue
        stacked = np.array([update[name] for update in updates], np.float64)
        assert np.isfinite(stacked).all()
        mean = np.average(stacked, axis=0, weights=np.array(weights, np.float64))
        tolerance = 1e-2 if name in ("half", "scale") else 1e-6
        assert np.allclose(value, mean, rtol=tolerance, atol=tolerance)


def noted_sha256(path: Path) -> str | None:
    """What a client notes of its update; a link to another file says nothing."""
    try:
        is_file = path.is_file() and not path.is_symlink()
        found = said.strict(path.read_bytes())["sha256"] if is_file else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


@pytest.mark.usefixtures("unsynced")
def test_steps_on_changed_runs_end_in_an_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: Counter[tuple[str, int]] = Counter()
    for number in range(RUNS):
        rng = random.Random(f"run/{number}")
        root = tmp_path / str(number)
        shutil.copytree(fuzzing.CORPUS, root)
        names = UPDATES if number % 2 else sorted(CORPUS)
        for name in rng.sample(names, rng.choice((1, 1, 2))):
            harm(rng, root, name)
        for words in (COMMANDS[number % 2], *COMMANDS[2:]):
            status, result = answer([*words, "--json", "--run", str(root)], capfd)
            ended[words[0], status] += 1
            if status == 0 and "fedavg" in words and not result["bounded"]:
                check_mean(root, result)
        shutil.rmtree(root)
    assert ended["aggregate", 0] > 0.15 * RUNS
    assert ended["aggregate", 4] > 0.15 * RUNS
    assert ended["status", 0] > 0.65 * RUNS
    assert ended["report", 0] > 0.65 * RUNS
