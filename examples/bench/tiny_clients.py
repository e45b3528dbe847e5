"""How long does a whole round of thousands of tiny simulated clients take?

    python examples/bench/tiny_clients.py [--clients 10000] [--rounds 2] [--fan-out N]
                                          [--directory DIR]

Gives each client ten pictures of 8×8 pixels and a linear model, and runs the rounds one after
another: prints a Markdown table with seconds on the clock and seconds of all cores, which say more
where a machine does other work. Files are flushed to the disk that DIR is on.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[2]
EACH = 10  # pictures


def write_pictures(path: Path, count: int) -> None:
    """Write noisy pictures of ten classes as an npz file."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    middle = rng.integers(0, 128, (10, 8, 8))
    pictures = middle[labels] + rng.integers(0, 128, (count, 8, 8))
    np.savez(path, x_train=pictures.astype(np.uint8), y_train=labels)


def cores() -> float:
    """Return the seconds of all cores in the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(label: str, *words: str) -> None:
    """Run a command of fedcli, and print its row."""
    started, before = time.perf_counter(), cores()
    subprocess.run(
        [sys.executable, "-m", "fedcli", *words, "--quiet"],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - started
    print(f"| {label} | {seconds:.1f} | {cores() - before:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fan-out", type=int, help="add updates up in a tree, N at a time")
    parser.add_argument("--directory", type=Path, help="where to make the run (removed again)")
    options = parser.parse_args()
    tree = ["--fan-out", str(options.fan_out)] if options.fan_out else []
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        pictures, run = Path(directory) / "pictures.npz", str(Path(directory) / "run")
        write_pictures(pictures, 2 * EACH * options.clients)
        print("| command | s | CPU s |\n| --- | ---: | ---: |")
        made = ["--dataset", f"npz:{pictures}", "--limit", str(EACH * options.clients)]
        made += ["--clients", str(options.clients), "--scheme", "iid"]
        made += ["--model", "linear", "--epochs", "1", "--batch-size", "16"]
        measure("partition", "partition", "--run", run, *made)
        for number in range(1, options.rounds + 1):
            measure(f"run, round {number}", "run", "--run", run, "--rounds", str(number), *tree)


if __name__ == "__main__":
    main()
