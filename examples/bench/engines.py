"""Time one training step on this machine and on a Dask worker of this machine, in pairs.

    python examples/bench/engines.py --repeat 3 --steps 30

A step is ``fedcli train-client`` of a linear model on a few pictures: what is measured is what it
costs to launch one. The cold step is the first of an engine, whose process has to import torch;
the warm ones are forked from it. Each repetition starts both engines anew: a Dask scheduler with
one worker on loopback (``pip install 'fedcli[dask]'``), and the process of this machine. Steps take
turns between the two.

Printed are the medians in milliseconds, and at last the median of the ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcli import DataSource, ModelInfo, Plan, Scheme, Start, TrainPlan, partition
from fedcli.execution.engine import Engine, Task
from fedcli.execution.engines import engines_at
from fedcli.execution.place import Place


@contextmanager
def dask(folder: Path) -> Iterator[Path]:
    """Start a scheduler and a worker; yield the scheduler's file."""
    file, quiet = folder / "scheduler.json", ["--host", "127.0.0.1", "--no-dashboard"]
    program = [sys.executable, "-m", "dask"]
    scheduler = [*program, "scheduler", "--port", "0", "--scheduler-file", str(file), *quiet]
    worker = [*program, "worker", "--scheduler-file", str(file), "--nthreads", "1", *quiet]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    own = {**os.environ, "TMPDIR": str(folder)}  # where Dask leaves a folder
    processes = [subprocess.Popen(words, env=own, **silent) for words in (scheduler, worker)]
    try:
        while not file.exists():
            time.sleep(0.05)
        yield file
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
        file.unlink(missing_ok=True)


def milliseconds(engine: Engine, run: Path, client: int) -> float:
    """Train one client, and return how long that takes."""
    words = ("fedcli", "train-client", "--run", str(run), "--id", str(client), "--json", "--quiet")
    start = time.perf_counter()
    ending = engine.submit(Task(words, threads=1)).result()
    assert ending.status == 0, ending.said.decode()
    return 1000 * (time.perf_counter() - start)


def pair(engines: list[Engine], runs: list[Path], client: int, *, first: int) -> list[float]:
    """Train one client on both, on the ``first`` one first."""
    took = {at: milliseconds(engines[at], runs[at], client) for at in (first, 1 - first)}
    return [took[0], took[1]]


def measure(folder: Path, steps: int, turn: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the steps here, and of those on the worker."""
    runs = [folder / name for name in ("here", "there")]
    start = Start(ModelInfo("linear"), plan=Plan(TrainPlan(epochs=1)))
    for run in runs:
        partition(run, DataSource(limit=20 * steps), Scheme("iid", clients=steps), start)
    with dask(folder) as file:
        places = [Place(), Place(executor=f"dask:{file}")]
        both = [
            engines_at(place, run, ("linear",), print).engine
            for place, run in zip(places, runs, strict=True)
        ]
        for engine in both:
            engine.connect()
        took = [pair(both, runs, client, first=(client + turn) % 2) for client in range(steps)]
        for engine in both:
            engine.stop()
    here, there = zip(*took, strict=True)
    return list(here), list(there)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    cold: list[tuple[float, float]] = []
    warm: list[tuple[float, float]] = []
    for turn in range(asked.repeat):
        with tempfile.TemporaryDirectory() as folder:
            here, there = measure(Path(folder), asked.steps, turn)
        cold.append((here[0], there[0]))
        warm += zip(here[1:], there[1:], strict=True)
    for name, pairs in (("cold", cold), ("warm", warm)):
        here_ms, there_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name} step: here {here_ms:.0f} ms, Dask {there_ms:.0f} ms")
    ratios = sorted(there / here for here, there in warm)
    low, high = ratios[len(ratios) // 20], ratios[-1 - len(ratios) // 20]
    print(f"Dask / here, warm: {statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})")


if __name__ == "__main__":
    main()
