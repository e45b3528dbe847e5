"""What does aggregation cost over reading and hashing the same bytes?

    python examples/bench/aggregate.py [--updates 100] [--repeat 3]

Makes a run with that many updates of the size of a ResNet-18 with ten classes (44.7 MB each, so
4.5 GB for 100), then times by turns, each in a process of its own:

    hash       a program that only reads every update and computes its SHA-256
    aggregate  ``fedcli aggregate``: reads, hashes, checks and averages, and writes the model

and prints the median of the ratios of neighbours, and the peak resident memory of each. Both read
from the page cache where it is large enough. What ``aggregate`` takes to start (Python, numpy,
the command line) is a large part of its time for a few updates, and a small one for a hundred.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.checkpoint import save
from fedcli.metadata import Kind, Metadata, Role
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run_info import DatasetInfo, ModelInfo, RunInfo

HASH = """
import hashlib, sys
buffer = memoryview(bytearray(512 * 1024))
for path in sys.argv[1:]:
    sha256 = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
    print(sha256.hexdigest(), path)
"""

# A process counts what its parent had resident when it was forked: so it is started by a small one.
MEASURE = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss)
process.returncode = os.waitstatus_to_exitcode(status)
sys.exit(process.returncode)
"""


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def resnet18() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of torchvision's ``resnet18(num_classes=10)``."""
    yield "conv1.weight", (64, 3, 7, 7)
    yield from _norm("bn1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            prefix = f"layer{stage}.{block}"
            yield f"{prefix}.conv1.weight", (width, inputs, 3, 3)
            yield from _norm(f"{prefix}.bn1", width)
            yield f"{prefix}.conv2.weight", (width, width, 3, 3)
            yield from _norm(f"{prefix}.bn2", width)
            if inputs != width:
                yield f"{prefix}.downsample.0.weight", (width, inputs, 1, 1)
                yield from _norm(f"{prefix}.downsample.1", width)
            inputs = width
    yield "fc.weight", (10, 512)
    yield "fc.bias", (10,)


def role_of(name: str) -> Role:
    if name.endswith("num_batches_tracked"):
        return Role.COUNTER
    return Role.BUFFER if "running" in name else Role.PARAMETER


def make_run(root: Path, updates: int) -> Run:
    """Write a run with the updates of one round; they are different, and cheap to make."""
    rng = np.random.default_rng(0)
    shapes = dict(resnet18())
    roles = {name: role_of(name) for name in shapes}
    tensors: dict[str, Any] = {
        name: np.zeros(shape, np.int64)
        if roles[name] == Role.COUNTER
        else rng.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }
    roles = {name: role for name, role in roles.items() if role != Role.PARAMETER}
    clients = tuple(map(str, range(updates)))
    data = DatasetInfo("bench", tuple("abcdefghij"), (3, 32, 32))
    run = Run.create(root, RunInfo(data, ModelInfo("resnet18"), 0, clients, Plan(), {}))
    metadata = Metadata(Kind.GLOBAL, run.id, round=0, roles=roles, seed=0)
    base = save(run.round(0).global_model, tensors, metadata)
    for client in clients:
        for name, values in tensors.items():
            tensors[name] = -values if name not in roles else values
        tensors["fc.bias"] = rng.standard_normal(10, np.float32)
        update = replace(
            metadata, kind=Kind.UPDATE, round=1, client=client, num_examples=100, base=base
        )
        save(run.round(1).update(client), tensors, update)
    return run


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in MB."""
    output = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE)
    if output.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}: status {output.returncode}")
    seconds, memory = output.stdout.split()[-2:]
    return float(seconds), float(memory) * (1 if sys.platform == "darwin" else 1024) / 1e6


def compare(run: Run, repeat: int) -> None:
    round_ = run.round(1)
    paths = [str(round_.update(client)) for client in round_.delivered()]
    size = sum(Path(path).stat().st_size for path in paths)
    print(f"{len(paths)} updates, {size / 1e9:.2f} GB")
    ratios = []
    for turn in range(repeat + 1):
        round_.global_model.unlink(missing_ok=True)
        plain, plain_memory = measure([sys.executable, "-c", HASH, *paths])
        ours, our_memory = measure(
            [sys.executable, "-m", "fedcli", "aggregate", "--run", str(run.root)]
        )
        print(
            f"{'warm-up' if turn == 0 else turn}: hash {plain:.2f} s, {plain_memory:.0f} MB;"
            f" aggregate {ours:.2f} s, {our_memory:.0f} MB; ratio {ours / plain:.2f}"
        )
        ratios += [ours / plain] if turn else []
    print(f"median ratio {statistics.median(ratios):.2f} (goal: at most 1.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to make the run (removed again)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        needed = (arguments.updates + 4) * 45_000_000
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise SystemExit(f"{directory}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
        run = make_run(Path(directory) / "fedrun", arguments.updates)
        compare(run, arguments.repeat)


if __name__ == "__main__":
    main()
