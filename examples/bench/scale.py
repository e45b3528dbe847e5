"""How do time and memory of each command grow with the number of clients?

    python examples/bench/scale.py [--clients 1000 10000] [--features 3072] [--repeat 1]
                                   [--rules mean median krum] [--commands ...] [--directory DIR]

Makes a run of one linear layer (3,072 features and 10 classes: updates of 124 kB) whose clients
have delivered random updates, which takes no training, and prints a Markdown table of each command
and of ``init``, in a process of its own: seconds on the clock, seconds of all cores (which say more
where a machine does other work), and peak MB of resident memory; medians over the turns, and the
highest peak. All read from the page cache where it is large enough. ``--against DIRECTORY`` is
another copy of fedcli, which is measured by turns with this one.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedcli.formats.checkpoint import digest, save
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.formats.records import encode
from fedcli.formats.safetensors import encode_header, layout_of
from fedcli.formats.telemetry import EpochFigures, Telemetry
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.storage.atomic import canonical_json

HERE = Path(__file__).parents[2]
CLASSES = tuple("abcdefghij")
RULES = ("mean", "median", "krum", "multi-krum", "bulyan", "trimmed-mean", "rfa", "foolsgold")
Figures = tuple[float, float, float]  # seconds, MB, and seconds of all cores

# A process counts what its parent had resident when it was forked: so it is started by a small one.
MEASURE = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
process.returncode = os.waitstatus_to_exitcode(status)
sys.exit(process.returncode)
"""


def make_run(root: Path, clients: int, features: int) -> Run:
    """Write a run whose clients have all delivered an update in round 1."""
    info = RunInfo(
        dataset=DatasetInfo("bench", CLASSES, (1, 1, features)),
        model=ModelInfo("linear"),
        seed=0,
        clients=tuple(map(str, range(clients))),
        plan=Plan(),
        origin={"step": "partition", "scheme": "dirichlet", "parameters": {"alpha": 0.5}},
    )
    run = Run.create(root, info)
    tensors = {
        "fc.weight": np.zeros((len(CLASSES), features), np.float32),
        "fc.bias": np.zeros(len(CLASSES), np.float32),
    }
    base = save(run.round(0).global_model, tensors, Metadata(Kind.GLOBAL, run.id, round=0))
    write_partition(run)
    write_updates(run, base, features)
    return run


def write_partition(run: Run) -> None:
    """Say how many examples of each class a client has, as ``fedcli partition`` does."""
    rng = np.random.default_rng(1)
    rows = rng.multinomial(100, rng.dirichlet(np.full(len(CLASSES), 0.5), len(run.info.clients)))
    counts = {c: tuple(row) for c, row in zip(run.info.clients, rows.tolist(), strict=True)}
    PartitionFile(
        run=run.id,
        seed=0,
        scheme="dirichlet",
        parameters={"alpha": 0.5},
        classes=CLASSES,
        label_counts=counts,
        test_label_counts=(100,) * len(CLASSES),
        shards={f"client-{c}.safetensors": ShardFile("8" * 64, 100, 10**5) for c in counts},
    ).write(run.partition_file)


def write_evaluation(run: Run) -> None:
    """Score the model of round 1 on the test set, and on what every client has held out."""
    rng = np.random.default_rng(2)
    sha256 = digest(run.round(1).global_model)
    score = Score("global", "test", 1000, 0.5, sha256=sha256, loss=1.0)
    own = [
        replace(score, data="validation", data_client=client, accuracy=float(rng.random()))
        for client in run.info.clients
    ]
    Evaluation((score, *own), 1).write(run.round(1).evaluation)


def write_updates(run: Run, base: str, features: int) -> None:
    """Write every client's update, a random step, without waiting for the disk."""
    round_ = run.round(1)
    round_.updates.mkdir(parents=True)
    kinds = {"fc.weight": (len(CLASSES), features), "fc.bias": (len(CLASSES),)}
    layout = layout_of({name: (np.dtype(np.float32), shape) for name, shape in kinds.items()})
    count = len(CLASSES) * (features + 1)
    rng = np.random.default_rng(0)
    record = TrainingRecord(algorithm="fedavg", optimizer="sgd", lr=0.01, epochs=5, steps=5)
    made = Metadata(Kind.UPDATE, run.id, round=1, base=base, training=record)
    for number, client in enumerate(run.info.clients):
        own = replace(made, client=client, num_examples=100 + number % 50, seed=number)
        values = rng.standard_normal(count, np.float32) * np.float32(0.01)
        head = encode_header(layout, {"fedcli": own.encode()})
        content = head + values.tobytes()
        round_.update(client).write_bytes(content)
        seen = telemetry(own, hashlib.sha256(content).hexdigest(), rng)
        round_.telemetry(client).write_bytes(canonical_json({"format": 1, **encode(seen)}))


def telemetry(update: Metadata, sha256: str, rng: np.random.Generator) -> Telemetry:
    """Describe a training that never was."""
    seconds, examples = 5 + float(rng.random()), update.num_examples or 0
    return Telemetry(
        sha256,
        client=update.client,
        round=1,
        num_examples=examples,
        seconds=seconds,
        images_per_second=examples / seconds,
        device="cpu",
        threads=1,
        peak_memory_bytes=10**9,
        epochs=(EpochFigures(1, *map(float, rng.random(2)), seconds),),
    )


def measure(words: Sequence[str], house: Path) -> Figures:
    """Run a command of fedcli; return its seconds, its peak resident memory, and its work."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", "fedcli", *words, "--quiet"],
        cwd=house,  # whose modules come first
        env={**os.environ, "PYTHONPATH": str(house), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: status {done.returncode}")
    seconds, memory, cores = map(float, done.stdout.split()[-3:])
    return seconds, memory * (1 if sys.platform == "darwin" else 1024) / 1e6, cores


def undo(run: Run) -> None:
    """Remove what aggregation wrote."""
    round_ = run.round(1)
    for path in (round_.global_model, round_.manifest, round_.server_state, round_.evaluation):
        path.unlink(missing_ok=True)


def rule_words(rule: str) -> list[str]:
    """Return the options of a rule."""
    return [] if rule == "mean" else ["--strategy", rule]


def commands(run: Run, rules: Sequence[str]) -> dict[str, Callable[[Path], Figures]]:
    """Return what is measured, in order: the last rule leaves a round for the commands after it."""
    where = ["--run", str(run.root)]

    def of(*words: str) -> Callable[[Path], Figures]:
        return lambda house: measure([*words, *where], house)

    def aggregation(rule: str) -> Callable[[Path], Figures]:
        def run_it(house: Path) -> Figures:
            undo(run)
            return measure(["aggregate", *where, *rule_words(rule)], house)

        return run_it

    def init(house: Path) -> Figures:
        new = run.root.with_name("new")
        shutil.rmtree(new, ignore_errors=True)
        options = ["--classes", ",".join(CLASSES), "--model", "linear", "--image-size", "8"]
        clients = ["--clients", str(len(run.info.clients))]
        return measure(["init", "--run", str(new), *clients, *options], house)

    def report(*words: str) -> Callable[[Path], Figures]:
        def run_it(house: Path) -> Figures:
            write_evaluation(run)
            return measure(["report", str(run.root), *words], house)

        return run_it

    return {
        "init": init,
        "status": of("status"),
        **{f"aggregate {rule}": aggregation(rule) for rule in [*rules, "mean"]},
        "status after": of("status"),
        "verify": of("verify"),
        "verify --replay": of("verify", "--replay"),
        "report": report(),
        "report --html": report("--html", str(run.root / "page.html")),
    }


def sizes(run: Run) -> str:
    """Say how large the files are that grow with the number of clients."""
    found = []
    model, start = run.round(1).global_model, run.round(0).global_model
    if model.exists():
        ratio = model.stat().st_size / start.stat().st_size
        found.append(f"global model {model.stat().st_size:,} bytes, {ratio:.2f} times round 0's")
    for path in (run.round(1).manifest, run.root / "page.html"):
        if path.exists():
            found.append(f"{path.name} {path.stat().st_size:,} bytes")
    return "; ".join(found)


def compare(run: Run, houses: dict[str, Path], options: argparse.Namespace) -> None:
    """Print a row for each command."""
    count = len(run.info.clients)
    update = run.round(1).update("0").stat().st_size
    print(f"\n{count:,} clients, updates of {update:,} bytes, median of {options.repeat}\n")
    print("| command |", " | ".join(f"{name} s | CPU s | MB" for name in houses), "|")
    print("| --- |" + " ---: | ---: | ---: |" * len(houses), flush=True)
    for name, command in commands(run, options.rules).items():
        if options.commands and not any(name.startswith(one) for one in options.commands):
            continue
        turns = [[command(house) for house in houses.values()] for _ in range(options.repeat)]
        cells = [
            f"{statistics.median(turn[at][0] for turn in turns):.2f} |"
            f" {statistics.median(turn[at][2] for turn in turns):.2f} |"
            f" {max(turn[at][1] for turn in turns):.0f}"
            for at in range(len(houses))
        ]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    print(f"\n{sizes(run)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--rules", nargs="*", choices=RULES, default=["mean", "median", "krum"])
    parser.add_argument("--commands", nargs="+", help="only those that begin so")
    parser.add_argument("--against", type=Path, help="another copy of fedcli")
    parser.add_argument("--directory", type=Path, help="where to make the runs (removed again)")
    options = parser.parse_args()
    houses = {"this": HERE} | ({"other": options.against.resolve()} if options.against else {})
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for count in options.clients:
            needed = count * (40 * options.features + 3000)
            free = shutil.disk_usage(directory).free
            if free < needed:
                raise SystemExit(
                    f"{directory}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} needed"
                )
            run = make_run(Path(directory) / f"run-{count}", count, options.features)
            compare(run, houses, options)
            shutil.rmtree(run.root)


if __name__ == "__main__":
    main()
