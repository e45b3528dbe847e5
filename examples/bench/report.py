"""How long does ``fedcli report`` take, and how much does it print?

    python examples/bench/report.py [--runs 18] [--rounds 50] [--clients 10] [--repeat 3]
                                    [--against DIRECTORY] [--page]

Writes runs as ``fedcli run`` leaves them, with small models: three seeds each of several
algorithms, at two alphas; every round is aggregated and evaluated. Then it measures the report on
a terminal of 80 columns, each in a new process, and prints medians. ``--page`` writes the HTML page
as well. ``--against`` is another copy of fedcli, which is measured by turns with this one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np

from fedcli.formats.checkpoint import save
from fedcli.formats.evaluation import ClassScore, Evaluation, Score
from fedcli.formats.manifest import Contribution, Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.formats.records import FileRecord, encode
from fedcli.formats.telemetry import EpochFigures, Telemetry
from fedcli.plan import Plan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.run.round import Round
from fedcli.storage.atomic import canonical_json

HERE = Path(__file__).parents[2]
CLASSES = tuple(f"class {i}" for i in range(10))
ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fednova", "fedbn", "feddyn", "moon")
WEIGHTS = {"fc.weight": np.zeros((10, 8), np.float32)}


def make_run(root: Path, algorithm: str, alpha: float, seed: int, size: tuple[int, int]) -> Run:
    """Write a run of ``size`` clients and rounds."""
    clients = tuple(map(str, range(size[0])))
    info = RunInfo(
        dataset=DatasetInfo("synthetic", CLASSES, (3, 32, 32)),
        model=ModelInfo("cnn"),
        seed=seed,
        clients=clients,
        plan=Plan.from_mapping({"train": {"algorithm": algorithm}}, "benchmark"),
        origin={"step": "partition", "scheme": "dirichlet", "parameters": {"alpha": alpha}},
    )
    run = Run.create(root, info)
    rng = np.random.default_rng([seed, ALGORITHMS.index(algorithm), round(10 * alpha)])
    write_partition(run, alpha, rng)
    base = save(run.round(0).global_model, WEIGHTS, Metadata(Kind.GLOBAL, run.id, round=0))
    for number in range(1, size[1] + 1):
        base = write_round(run, run.round(number), base, rng)
    return run


def write_partition(run: Run, alpha: float, rng: np.random.Generator) -> None:
    counts = {c: tuple(map(int, rng.integers(0, 90, len(CLASSES)))) for c in run.info.clients}
    shards = {f"client-{c}.safetensors": ShardFile("8" * 64, sum(counts[c]), 10**6) for c in counts}
    test = ShardFile("9" * 64, 1000, 10**6, "7" * 64)
    PartitionFile(
        run=run.id,
        seed=run.info.seed,
        scheme="dirichlet",
        parameters={"alpha": alpha},
        classes=CLASSES,
        label_counts=counts,
        test_label_counts=(100,) * len(CLASSES),
        shards={**shards, "test.safetensors": test},
    ).write(run.partition_file)
    for shard in (run.test_shard, *map(run.client_shard, counts)):
        shard.touch()


def write_round(run: Run, round_: Round, base: str, rng: np.random.Generator) -> str:
    """Write what a finished round leaves; return the SHA-256 of its model."""
    updates = {c: rng.bytes(32).hex() for c in run.info.clients}
    round_.updates.mkdir(parents=True)
    for client, sha256 in updates.items():
        round_.update(client).touch()
        put(round_.telemetry(client), telemetry(client, round_.number, sha256, rng))
    made = Metadata(Kind.GLOBAL, run.id, round=round_.number, base=base, updates=updates)
    sha256 = save(round_.global_model, WEIGHTS, made)
    put(round_.manifest, manifest(run, round_.number, updates, base, sha256, rng))
    put(round_.evaluation, evaluation(round_.number, sha256, rng))
    return sha256


def put(path: Path, record: FileRecord) -> None:
    """Write a record without waiting for the disk."""
    path.write_bytes(canonical_json({"format": 1, **encode(record)}))


def telemetry(client: str, number: int, sha256: str, rng: np.random.Generator) -> Telemetry:
    return Telemetry(
        sha256,
        client=client,
        round=number,
        num_examples=450,
        seconds=5.0,
        images_per_second=450.0,
        device="cpu",
        threads=1,
        peak_memory_bytes=10**9,
        epochs=tuple(EpochFigures(n, *map(float, rng.random(2)), 1.0) for n in range(1, 6)),
    )


def manifest(
    run: Run, number: int, updates: dict[str, str], base: str, made: str, rng: np.random.Generator
) -> Manifest:
    rule, weight = resolve(run.info.plan.aggregate), 1 / len(updates)
    accepted = [
        Contribution(client, sha256, 450, weight, 45_000, number, *map(float, 1 + rng.random(3)))
        for client, sha256 in updates.items()
    ]
    return Manifest(
        round=number,
        strategy=rule.strategy,
        reduce=rule.reduce,
        server_optimizer=rule.server_optimizer,
        weighting=rule.weighting,
        options=dict(rule.options),
        base=base,
        global_model=made,
        server_state=None,
        sampled=None,
        accepted=tuple(accepted),
        partials=(),
        missing=(),
        late=(),
        rejected=(),
        seconds=0.5,
    )


def evaluation(number: int, sha256: str, rng: np.random.Generator) -> Evaluation:
    accuracy = 0.7 - 0.5 / number + 0.02 * float(rng.random())
    score = Score(
        model="global",
        data="test",
        examples=1000,
        accuracy=accuracy,
        sha256=sha256,
        loss=2 - 2 * accuracy,
        balanced_accuracy=accuracy,
        macro_f1=accuracy,
        per_class=tuple(ClassScore(name, 100, accuracy, accuracy) for name in CLASSES),
        confusion=tuple(tuple(map(int, row)) for row in rng.integers(0, 20, (len(CLASSES),) * 2)),
        seconds=0.25,
    )
    return Evaluation((score,), number)


def measured(root: Path, house: Path, options: Sequence[str]) -> tuple[float, int]:
    """Return the seconds of one report, and its lines."""
    words = ["-m", "fedcli", "report", *sorted(p.name for p in root.iterdir()), "--quiet"]
    variables = {**os.environ, "PYTHONPATH": str(house), "COLUMNS": "80"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words, *options],
        cwd=root,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, len(done.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another copy of fedcli")
    parser.add_argument("--page", action="store_true", help="write the HTML page as well")
    options = parser.parse_args()
    houses = {"this": HERE} | ({"other": options.against.resolve()} if options.against else {})
    seconds: dict[str, list[float]] = {name: [] for name in houses}
    lines = dict.fromkeys(houses, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "runs"
        cases = product(ALGORITHMS, (0.1, 0.5), range(3))
        for algorithm, alpha, seed in islice(cases, options.runs):
            root = folder / f"{algorithm}-alpha{alpha}-seed{seed}"
            make_run(root, algorithm, alpha, seed, (options.clients, options.rounds))
        more = ["--html", str(Path(name) / "page.html")] if options.page else []
        for _ in range(options.repeat):
            for one, house in houses.items():
                took, lines[one] = measured(folder, house, more)
                seconds[one].append(took)
    of = f"{options.runs} runs × {options.rounds} rounds × {options.clients} clients"
    for one, times in seconds.items():
        spread = f"{min(times):.2f} to {max(times):.2f}, {options.repeat} turns"
        print(f"{of}, {one}: {statistics.median(times):.2f} s ({spread}), {lines[one]} lines")


if __name__ == "__main__":
    main()
