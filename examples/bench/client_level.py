"""What does hiding clients cost over plain averaging, and how much memory does it take?

    python examples/bench/client_level.py [--clients 3] [--repeat 5]

Makes a run with updates of the size of a ResNet-18 with group norm (11.2 million parameters,
44.7 MB each), then runs ``fedcli aggregate --no-diagnostics`` by turns, each in its own process:

    plain     the uniform mean
    clipped   steps are shortened to the norm C: one more pass over the updates
    noisy     the same on a grid, and discrete Gaussian noise on the sum
    adaptive  the same, and C moves

and prints medians over the turns in a Markdown table: seconds of one core, those of Python's start
included, and the peak of resident memory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.security.noise_key import write_noise_key

TENSOR, TENSORS = 172_000, 65  # 11.2 million values
WAYS = {
    "plain": ["--weighting", "uniform"],
    "clipped": ["--update-clip", "1", "--update-noise", "0"],
    "noisy": ["--update-clip", "1", "--update-noise", "1"],
    "adaptive": ["--adaptive-clip", "0.5", "--update-noise", "1"],
}

MEASURED = """
import resource, sys
from fedcli.cli import execute
status = execute(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


def make(root: Path, clients: int) -> None:
    key = write_noise_key(root.with_suffix(".key"), outside=root)
    names = tuple(map(str, range(clients)))
    data = DatasetInfo("handmade", ("a", "b"), (3, 8, 8))
    info = RunInfo(data, ModelInfo("linear"), 0, names, Plan(), {}, noise_key=key.commitment)
    run = Run.create(root, info)
    rng = np.random.default_rng(0)
    base = {f"{i:02}.weight": rng.standard_normal(TENSOR, np.float32) for i in range(TENSORS)}
    save(run.round(0).global_model, base, Metadata(Kind.GLOBAL, run.id, round=0, seed=0))
    sha256 = digest(run.round(0).global_model)
    for client in names:
        values = {n: v + 1e-3 * rng.standard_normal(TENSOR, np.float32) for n, v in base.items()}
        said = Metadata(Kind.UPDATE, run.id, 1, client, num_examples=10, base=sha256, seed=0)
        save(run.round(1).update(client), values, said)


def measure(root: Path, way: str) -> tuple[float, float]:
    """Return the CPU seconds and MB of one aggregation, after undoing the last one."""
    for name in ("global.safetensors", "aggregate.json"):
        (root / "rounds" / "0001" / name).unlink(missing_ok=True)
    key = [] if way in ("plain", "clipped") else ["--noise-key", str(root.with_suffix(".key"))]
    command = ["aggregate", "--run", str(root), "--no-diagnostics", "--quiet", *WAYS[way], *key]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=True
    )
    seconds, memory = map(float, done.stderr.split()[-2:])
    return seconds, memory / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "run"
        make(root, asked.clients)
        turns = [{way: measure(root, way) for way in WAYS} for _ in range(asked.repeat)]
    print("| | CPU seconds | MB |\n| --- | --: | --: |")
    for way in WAYS:
        seconds, memory = (statistics.median(turn[way][i] for turn in turns) for i in (0, 1))
        print(f"| {way} | {seconds:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
