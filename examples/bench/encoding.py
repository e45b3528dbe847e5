"""What do encodings of updates cost, and what do they lose? How fast are encoded rounds?

    python examples/bench/encoding.py [--encode SPEC ...] [--updates 100] [--repeat 3]

A client trains a model for an epoch on pictures of noise, with a brightness for each class. Its
update is encoded in every way, on one core. Printed are the file's size in MB and in bits per
parameter; NMSE, the share of the step's energy that is lost, ‖p − c‖² / ‖p‖²; and medians of the
seconds to encode the step, to decode it, and to read the file as a model, base model included.

Then rounds of so many updates are aggregated by turns, plain and encoded by the first SPEC, each
by ``fedcli aggregate --no-diagnostics`` as a process of its own on one core. Plain updates take
44.8 MB each, so 100 need 4.5 GB of disk and page cache. Printed are medians of wall seconds, of CPU
seconds, and of the peak of resident memory.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedcli.aggregation.encodings import decoded
from fedcli.codecs import Codec, Encoded, Vector, parse_codec
from fedcli.codecs.feedback import decode_all
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.encoded import PARAMETERS, Parts, flat, others_of, tensors_of, vector_of
from fedcli.formats.metadata import Metadata
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run

SPECS = ["round=0.07", "float16", "int8", "sign", "round=0.01", "round=0.03", "round=0.2"]
SPECS += ["topk=0.03", "topk=0.03,float16", "randk=0.07"]
Tensors = dict[str, Any]
T = TypeVar("T")

MEASURE = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
process.returncode = os.waitstatus_to_exitcode(status)
sys.exit(process.returncode)
"""


def one_core() -> None:
    """Keep this process, and those that it starts, on one core, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def trained(root: Path, model: str, pictures: int) -> Run:
    """Make a run, and let its client train."""
    rng = np.random.default_rng(0)
    labels = np.arange(pictures) % 10
    images = rng.integers(0, 156, (pictures, 32, 32, 3)) + 10 * labels[:, None, None, None]
    data = root.with_suffix(".npz")
    np.savez(data, images=images.astype(np.uint8), labels=labels)
    words = ["--classes", ",".join(map(str, range(10))), "--image-size", "32", "--clients", "1"]
    fedcli("init", "--run", root, "--model", model, "--epochs", "1", *words)
    fedcli("train-client", "--run", root, "--id", "0", "--data", data)
    return Run.open(root)


def fedcli(*words: str | Path) -> None:
    """Run a command."""
    command = [sys.executable, "-m", "fedcli", *map(str, words), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Step:
    """What a client sends: its plain update, and the step in it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        with Checkpoint(run.round(1).update("0")) as update:
            self.values, self.metadata = update.tensors(), update.metadata
            self.parts = Parts.of(update.layout, update.metadata.roles)
            names = self.parts.groups[PARAMETERS]
            self.vector: Vector = vector_of(update.layout, names, run.info.seed, 1)
        with Checkpoint(run.round(0).global_model) as model:
            self.base = model.tensors()
        self.steps = flat(self.values, names) - flat(self.base, names)

    def encoded(self, codec: Codec, encoded: Encoded) -> tuple[Tensors, Metadata]:
        """Return the tensors and the metadata of the encoded update."""
        tensors = others_of(self.parts, self.values, self.base) | tensors_of(encoded, PARAMETERS)
        training = replace(self.metadata.training, encode=str(codec))
        return tensors, replace(
            self.metadata, encoding=codec.as_json(), roles={}, training=training
        )


def timed(repeat: int, call: Callable[[], T]) -> tuple[T, float]:
    """Return a result, and the median of the seconds that it took."""
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def compare_codecs(step: Step, specs: Sequence[str], repeat: int, path: Path) -> None:
    """Print a row for each encoding of an update."""
    print("| encoding | MB | bits per parameter | NMSE | encode (s) | decode (s) | read (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for spec in specs:
        codec = parse_codec(spec, "--encode")
        assert codec is not None
        try:
            encoded, encoding = timed(repeat, lambda c=codec: c.encode(step.steps, step.vector))
        except ValueError as error:
            print(f"| `{spec}` | {error} | | | | | |")
            continue
        sent, decoding = timed(repeat, lambda c=codec, e=encoded: decode_all(c, e, step.vector))
        save(path, *step.encoded(codec, encoded))
        _, reading = timed(repeat, lambda: read(path, step.run))
        lost = np.square(step.steps.astype(np.float64) - sent).sum()
        nmse = lost / np.square(step.steps.astype(np.float64)).sum()
        size = path.stat().st_size
        seconds = f"{encoding:.3f} | {decoding:.3f} | {reading:.3f}"
        bits = 8 * size / step.vector.size
        print(f"| `{spec}` | {size / 1e6:.3f} | {bits:.3f} | {nmse:.3f} | {seconds} |", flush=True)


def read(path: Path, run: Run) -> None:
    """Read an update as the model that it stands for."""
    with UpdateTensors(path) as update, decoded(update, run):
        for name in update.layout:
            update.tensor(name)


def fill(root: Path, step: Step, spec: str | None, count: int) -> Run:
    """Make a run like that of the step, with its update from many clients."""
    clients = tuple(map(str, range(count)))
    run = Run.create(root, replace(step.run.info, clients=clients))
    start = step.run.round(0).global_model
    with Checkpoint(start) as model:
        base = save(run.round(0).global_model, step.base, replace(model.metadata, run=run.id))
    tensors, metadata = step.values, step.metadata
    if spec is not None:
        codec = parse_codec(spec, "--encode")
        assert codec is not None
        tensors, metadata = step.encoded(codec, codec.encode(step.steps, step.vector))
    for client in clients:
        said = replace(metadata, run=run.id, base=base, client=client)
        save(run.round(1).update(client), tensors, said)
    return run


def measure(run: Run) -> tuple[float, float, float]:
    """Aggregate a run; return wall and CPU seconds and the peak resident memory in MB."""
    command = [sys.executable, "-m", "fedcli", "aggregate", "--no-diagnostics"]
    command += ["--run", str(run.root), "--quiet"]
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, check=True
    )
    wall, cpu, memory = map(float, output.stdout.split()[-3:])
    run.round(1).global_model.unlink()
    run.round(1).manifest.unlink()
    return wall, cpu, memory * (1 if sys.platform == "darwin" else 1024) / 1e6


def compare_rounds(folder: Path, step: Step, spec: str, count: int, repeat: int) -> None:
    """Print what a round of plain updates takes, and of encoded ones."""
    runs = [fill(folder / name, step, s, count) for name, s in (("plain", None), ("coded", spec))]
    for run in runs:
        measure(run)  # into the page cache
    turns = [[measure(run) for run in runs] for _ in range(repeat)]
    print(f"\n| {count} updates | wall (s) | CPU (s) | MB |\n| --- | ---: | ---: | ---: |")
    for index, name in enumerate(("plain", f"`{spec}`")):
        cells = [
            statistics.median(column) for column in zip(*(t[index] for t in turns), strict=True)
        ]
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} | {cells[2]:.0f} |")
    ratios = [statistics.median(t[1][i] / t[0][i] for t in turns) for i in (0, 1)]
    print(f"encoded / plain: wall {ratios[0]:.2f}, CPU {ratios[1]:.2f}, median of {repeat} turns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encode", nargs="+", default=SPECS, metavar="SPEC")
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "cnn", "linear"])
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to make the runs (removed again)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name)
        step = Step(trained(folder / "trained", options.model, options.pictures))
        needed = (options.updates + 6) * 1.1 * step.run.round(0).global_model.stat().st_size
        if (free := shutil.disk_usage(folder).free) < needed:
            raise SystemExit(f"{name}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
        one_core()
        compare_codecs(step, options.encode, options.repeat, folder / "update.safetensors")
        compare_rounds(folder, step, options.encode[0], options.updates, options.repeat)


if __name__ == "__main__":
    main()
