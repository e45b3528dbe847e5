"""What does each rule of aggregation cost over reading, and over hashing, the same bytes?

    python examples/bench/aggregate.py [--updates 3 10 100] [--rules mean median ...] [--repeat 3]

Makes a run with that many updates of the size of a ResNet-18 with ten classes (44.8 MB each, so
4.5 GB for 100), then measures by turns, each in a process of its own:

    read       a program that only reads every update
    hash       a program that reads every update and computes its SHA-256, with as many threads
    command    ``fedcli aggregate --no-diagnostics``: checks, hashes and combines, writes the model
    diagnosed  ``fedcli aggregate``: the same, and compares each update with the result
    unhashed   ``command`` with a SHA-256 that does nothing
    start      ``fedcli aggregate --list``: Python, numpy and the command line

and prints medians over the turns in a Markdown table. A rule's own share is ``unhashed`` less
``start``: reading, checking and combining the updates; hashing the model before and the one after,
and writing it, to the disk. All read from the page cache where it is large enough. MB are the peak
of resident memory. What Python takes to start, in ``read`` and ``hash`` too, blurs the ratios of a
few updates.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.strategies.reducers import REDUCERS

MODEL_BYTES = 45_000_000
Turn = dict[str, tuple[float, float]]  # seconds and MB of each command

RULES = [*REDUCERS, "fedadam", "qfedavg", "fednova"]

# A thread takes the next file when it is done with one; fedcli has at most eight.
READ = """
import os, sys, threading
paths = iter(sys.argv[1:])

def work():
    buffer = memoryview(bytearray(256 * 1024))
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

threads = [threading.Thread(target=work) for _ in range(min(8, len(os.sched_getaffinity(0))))]
for thread in threads:
    thread.start()
"""

HASH = READ.replace("import os", "import hashlib, os").replace(
    """            while file.readinto(buffer):
                pass
""",
    """            sha256 = hashlib.sha256()
            while count := file.readinto(buffer):
                sha256.update(buffer[:count])
        print(sha256.hexdigest(), path)
""",
)

# Updates are hashed as they are read. The models before and after are hashed as ever.
UNHASHED = """
from fedcli.cli import main
from fedcli.formats.update_tensors import UpdateTensors

UpdateTensors.hash_as_read = lambda self: None
UpdateTensors.digest = lambda self: "0" * 64
main()
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


def make_run(root: Path) -> tuple[Run, Metadata]:
    """Write a run with a starting model; return it, and what its updates have in common."""
    shapes = dict(resnet18())
    tensors = {
        name: np.zeros(shape, np.int64 if role_of(name) == Role.COUNTER else np.float32)
        for name, shape in shapes.items()
    }
    roles = {name: role_of(name) for name in shapes if role_of(name) != Role.PARAMETER}
    data = DatasetInfo("bench", tuple("abcdefghij"), (3, 32, 32))
    run = Run.create(root, RunInfo(data, ModelInfo("resnet18"), 0, (), Plan(), {}))
    start = Metadata(Kind.GLOBAL, run.id, round=0, roles=roles)
    base = save(run.round(0).global_model, tensors, start)
    return run, replace(start, kind=Kind.UPDATE, round=1, base=base)


def add_update(run: Run, common: Metadata, number: int) -> None:
    """Write the update of one more client: a random step."""
    rng = np.random.default_rng(number)
    tensors: dict[str, Any] = {
        name: np.full(shape, number, np.int64)
        if role_of(name) == Role.COUNTER
        else rng.standard_normal(shape, np.float32) * np.float32(0.01)
        for name, shape in resnet18()
    }
    training = {"lr": 0.01, "momentum": 0.9, "steps": 5 + number, "initial_loss": 2 + number / 100}
    client = str(number)
    update = replace(common, client=client, num_examples=100 + number, training=training)
    save(run.round(1).update(client), tensors, update)


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in MB."""
    output = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE)
    if output.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}: status {output.returncode}")
    seconds, memory = output.stdout.split()[-2:]
    return float(seconds), float(memory) * (1 if sys.platform == "darwin" else 1024) / 1e6


def commands(run: Run, rule: str) -> dict[str, list[str]]:
    """What is measured of a rule, in turn."""
    paths = [str(run.round(1).update(client)) for client in run.round(1).delivered()]
    strategy = "fedavg" if rule == "mean" else rule
    options = ["aggregate", "--run", str(run.root), "--strategy", strategy]
    if "clip" in rule:
        options += ["--clip-norm", "30"]
    if rule == "trimmed-mean" and len(paths) < 5:
        options += ["--trim", "0.34"]
    python = sys.executable
    return {
        "read": [python, "-c", READ, *paths],
        "hash": [python, "-c", HASH, *paths],
        "command": [python, "-m", "fedcli", *options, "--no-diagnostics"],
        "diagnosed": [python, "-m", "fedcli", *options],
        "unhashed": [python, "-c", UNHASHED, *options, "--no-diagnostics"],
        "start": [python, "-m", "fedcli", "aggregate", "--list"],
    }


def measure_turn(run: Run, rule: str) -> Turn:
    """Measure each command once; what it wrote is removed again."""
    measured = {}
    for name, command in commands(run, rule).items():
        measured[name] = measure(command)
        remove_results(run)
    return measured


def remove_results(run: Run) -> None:
    """Remove what an aggregation wrote."""
    round_ = run.round(1)
    for path in (round_.global_model, round_.manifest, round_.server_state):
        path.unlink(missing_ok=True)


COLUMNS: dict[str, Callable[[Turn], float]] = {
    "read (s)": lambda turn: turn["read"][0],
    "read and hash (s)": lambda turn: turn["hash"][0],
    "command (s)": lambda turn: turn["command"][0],
    "/ read": lambda turn: turn["command"][0] / turn["read"][0],
    "/ read and hash": lambda turn: turn["command"][0] / turn["hash"][0],
    "own share (s)": lambda turn: turn["unhashed"][0] - turn["start"][0],
    "own share / read": lambda turn: (turn["unhashed"][0] - turn["start"][0]) / turn["read"][0],
    "MB": lambda turn: turn["command"][1],
    "diagnosed (s)": lambda turn: turn["diagnosed"][0],
    "diagnosed MB": lambda turn: turn["diagnosed"][1],
}


def two_threads() -> float:
    """How much two threads of plain arithmetic get done in the time that one takes for its part."""
    rows = np.ones((2, 65536), np.float32)

    def work(row: Any) -> None:
        for _ in range(5000):
            np.sqrt(row, out=row)

    seconds = []
    for count in (1, 2):
        started = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, rows[:count]))
        seconds.append(time.perf_counter() - started)
    return 2 * seconds[0] / seconds[1]


def compare(run: Run, rules: Sequence[str], repeat: int) -> None:
    """Print a table with a row for each rule, of the median over the turns."""
    delivered = run.round(1).delivered()
    size = sum(run.round(1).update(client).stat().st_size for client in delivered)
    print(f"\n{len(delivered)} updates, {size / 1e9:.2f} GB, median of {repeat};", end=" ")
    print(f"two threads do {two_threads():.1f} times the work of one\n")
    print("| rule |", " | ".join(COLUMNS), "|\n| ---" + " | ---:" * len(COLUMNS) + " |", flush=True)
    measure(commands(run, rules[0])["read"])  # into the page cache
    for rule in rules:
        turns = [measure_turn(run, rule) for _ in range(repeat)]
        cells = [statistics.median(map(column, turns)) for column in COLUMNS.values()]
        print(f"| {rule} |", " | ".join(f"{cell:.3g}" for cell in cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, nargs="+", default=[3, 10, 100])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to make the run (removed again)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        needed = (max(arguments.updates) + 6) * MODEL_BYTES
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise SystemExit(f"{directory}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
        run, common = make_run(Path(directory) / "fedrun")
        for count in sorted(arguments.updates):
            for number in range(len(run.round(1).delivered()), count):
                add_update(run, common, number)
            compare(run, arguments.rules, arguments.repeat)


if __name__ == "__main__":
    main()
