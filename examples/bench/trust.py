"""Compare a round with keys with the same round without, in pairs, and time its SHA-256s.

    python examples/bench/trust.py --model resnet18 --repeat 3

Three clients with npz files of their own train for an epoch, and their updates are aggregated,
every step as a command of its own. In one run all have keys: clients check the coordinator's
signature and sign their updates, and ``aggregate`` checks these and signs the new model. In the
other nobody has one. Both compute the SHA-256 of every checkpoint while it is read or written;
what that takes is measured by itself, on the files of the round, as often as the steps do it.

Printed are seconds of both rounds, and of the hashing; at last the median of the ratios (1.05: keys
cost 5 % more).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fedcli.formats.checkpoint import digest
from fedcli.run import Run
from fedcli.security.keys import write_new_key

CLIENTS = ("0", "1", "2")
CLASSES = ",".join(map(str, range(10)))
BATCH_SIZE = 64


def fedcli(*words: str | Path) -> None:
    """Run a command."""
    command = [sys.executable, "-m", "fedcli", *map(str, words), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)


def write_pictures(folder: Path, pictures: int) -> None:
    """Write random pictures of each client."""
    rng = np.random.default_rng(0)
    for client in CLIENTS:
        count = pictures // len(CLIENTS)
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(folder / f"{client}.npz", images=images, labels=rng.permutation(count) % 10)


def make_run(root: Path, keys: Path | None, model: str) -> None:
    """Make a run, and keys of all in a folder if there is one."""
    line = [
        "init",
        "--run",
        str(root),
        "--classes",
        CLASSES,
        "--model",
        model,
        "--image-size",
        "32",
    ]
    line += ["--epochs", "1", "--lr", "0.01", "--batch-size", str(BATCH_SIZE)]
    if keys is None:
        line += ["--clients", ",".join(CLIENTS)]
    else:
        line += ["--key", str(keys / "coordinator.key")]
        for client in CLIENTS:
            public = write_new_key(keys / f"{client}.key", outside=root).public
            line += ["--member", f"{client}={public}"]
        write_new_key(keys / "coordinator.key", outside=root)
    fedcli(*line)


def seconds_of_round(root: Path, folder: Path, keys: Path | None) -> float:
    """Do a round in a copy of a run, and return how long it took."""
    copy = root.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    started = time.perf_counter()
    for client in CLIENTS:
        key = ["--key", keys / f"{client}.key"] if keys else []
        fedcli(
            "train-client", "--run", copy, "--id", client, "--data", folder / f"{client}.npz", *key
        )
    fedcli("aggregate", "--run", copy, *(["--key", keys / "coordinator.key"] if keys else []))
    return time.perf_counter() - started


def seconds_of_hashing(root: Path) -> float:
    """Compute the SHA-256s of a round: the clients', and those of the aggregation."""
    run = Run.open(root)
    base, made = run.round(0).global_model, run.round(1).global_model
    updates = [run.round(1).update(client) for client in CLIENTS]
    started = time.perf_counter()
    for path in (*[base] * len(CLIENTS), *updates, base, *updates, made):
        digest(path)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "cnn", "linear"])
    parser.add_argument("--pictures", type=int, default=3_000, help="of all clients")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        write_pictures(folder, options.pictures)
        make_run(folder / "plain", None, options.model)
        make_run(folder / "signed", folder, options.model)
        ratios = []
        for _ in range(options.repeat):
            plain = seconds_of_round(folder / "plain", folder, None)
            hashing = seconds_of_hashing(folder / "copy")
            signed = seconds_of_round(folder / "signed", folder, folder)
            ratios.append(signed / plain)
            print(
                f"without keys {plain:.2f} s, of which SHA-256s {hashing:.2f} s;"
                f"  with keys {signed:.2f} s;  ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(
        f"{options.model}, {options.pictures} pictures: with keys / without ="
        f" {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f},"
        f" {options.repeat} turns)"
    )


if __name__ == "__main__":
    main()
