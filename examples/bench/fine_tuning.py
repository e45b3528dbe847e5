"""Measure what freezing layers and LoRA save: time, memory, bytes.

    python examples/bench/fine_tuning.py --threads 2

Each way is a run of its own, of the same ResNet-18 and the same pictures, that one client trains.
The ways take turns; a turn is a call of ``fedcli train-client``, of which the last epoch counts.
Printed are the medians, and of the time that of its ratio to the training of all layers in the same
turn, with the smallest and the largest. Memory is the peak of the process, torch itself included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

WAYS = {
    "all layers": [],
    "`--freeze 'conv1,bn1,layer[12]'`": ["--freeze", "conv1,bn1,layer[12]"],
    "`--freeze '*,!fc'`": ["--freeze", "*,!fc"],
    "`--lora 8`": ["--lora", "8"],
}


def fedcli(*arguments: object) -> None:
    program = [sys.executable, "-m", "fedcli", *map(str, arguments), "--quiet"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)


def train(run: Path, threads: int) -> dict[str, Any]:
    """Train the client and return the telemetry of it."""
    fedcli("train-client", "--run", run, "--id", 0, "--threads", threads, "--force")
    found: dict[str, Any] = json.loads((run / "rounds/0001/updates/0.json").read_text())
    return found


def table(turns: list[list[dict[str, Any]]]) -> list[str]:
    """Return the rows of a Markdown table; ``turns`` hold the telemetry of each way."""
    lines = ["| way | time | ratio | memory | update |", "| --- | ---: | ---: | ---: | ---: |"]
    for number, name in enumerate(WAYS):
        seconds = [turn[number]["epochs"][-1]["seconds"] for turn in turns]
        base = [turn[0]["epochs"][-1]["seconds"] for turn in turns]
        ratios = [one / other for one, other in zip(seconds, base, strict=True)]
        memory = median(turn[number]["peak_memory_bytes"] for turn in turns)
        lines.append(
            f"| {name} | {median(seconds):.2f} s"
            f" | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f" | {memory / 1e6:.0f} MB | {turns[0][number]['bytes'] / 1e6:.3f} MB |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=3, help="number of turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / str(number) for number in range(len(WAYS))]
        for run, way in zip(runs, WAYS.values(), strict=True):
            fedcli(
                *("partition", "--run", run, "--model", options.model, "--clients", 1),
                *("--limit", options.pictures, "--batch-size", options.batch_size),
                *("--epochs", 2, *way),
            )
        turns = [[train(run, options.threads) for run in runs] for _ in range(options.repeat)]
    print("\n".join(table(turns)))


if __name__ == "__main__":
    main()
