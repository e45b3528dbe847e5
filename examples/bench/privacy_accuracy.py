"""What privacy costs in accuracy: the same training at several ε.

    python examples/bench/privacy_accuracy.py RUNS synthetic --seeds 0 1 2
    python examples/bench/privacy_accuracy.py RUNS clients --seeds 0 1 2
    python examples/bench/privacy_accuracy.py RUNS pictures --pictures FOLDER --start FILE

Each row has an ε, the noise multiplier that gives it after all rounds, and the accuracy of the last
global model: the mean over the seeds. "inf" is the same training without clipping and noise, with a
learning rate of its own. Runs lie in the folder that is named first; those that are there are
continued, or only read.

synthetic: the embedded data set, three clients of 2000, logistic regression; each example is
hidden.
clients: the same examples at 100 clients of 60; each client is hidden, from the model that all get.
pictures: three clients share the pictures of FOLDER, one folder per class. Only the last layer is
trained, on features of the network in FILE, which a run has learned from pictures that need no
privacy; each example is hidden.
"""

import argparse
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from fedcli import (
    AggregatePlan,
    DataSource,
    Execution,
    Mechanism,
    ModelInfo,
    Plan,
    PrivacyEvent,
    Relation,
    Run,
    Scheme,
    Start,
    TrainPlan,
    aggregate,
    calibrate,
    evaluate,
    keygen,
    partition,
    train_client,
)


@dataclass(frozen=True)
class Study:
    """What is trained, and how; ``q`` is public, and ``sums`` are those of a round."""

    source: DataSource
    clients: int
    train: TrainPlan
    rounds: int
    delta: float
    q: float
    sums: int
    clip: float
    plain_lr: float
    of_clients: bool = False
    model: str = "linear"
    start: Path | None = None

    def sigma(self, epsilon: float) -> float:
        """The noise multiplier, rounded up to three digits."""
        kind = Mechanism.GAUSSIAN if self.of_clients else Mechanism.POISSON
        event = PrivacyEvent(
            kind, 1.0, 1.0, 1.0, Relation.ADD_REMOVE, self.q, self.sums * self.rounds
        )
        exact = calibrate(event, epsilon=epsilon, delta=self.delta)
        step = 10.0 ** (math.floor(math.log10(exact)) - 2)
        return round(math.ceil(exact / step) * step, 6)

    def plan(self, sigma: float | None) -> Plan:
        if sigma is None:
            return Plan(self.train.with_options({"lr": self.plain_lr}))
        if self.of_clients:
            return Plan(self.train, AggregatePlan(update_clip=self.clip, update_noise=sigma))
        private = {"dp": "example", "clip": self.clip, "noise_multiplier": sigma}
        return Plan(self.train.with_options(private))

    def made(self, root: Path, sigma: float | None, seed: int, key: Path) -> Run:
        if not (root / "run.json").exists():
            start = Start(
                ModelInfo(self.model), init_from=self.start, plan=self.plan(sigma), seed=seed
            )
            commitment = key if sigma is not None and self.of_clients else None
            partition(root, self.source, Scheme(clients=self.clients), start, noise_key=commitment)
        return Run.open(root)

    def accuracy(self, root: Path, sigma: float | None, seed: int) -> float:
        """Make a run, continue it to its last round, and score its model."""
        key = root.with_suffix(".key")
        if not key.exists():
            keygen(root, key, noise=True)
        run = self.made(root, sigma, seed, key)
        of_client, of_sum = (key, None) if not self.of_clients else (None, key)
        if sigma is None:
            of_client = of_sum = None
        while (number := run.open_round().number) <= self.rounds:
            one_thread = Execution(threads=1)
            train_client(run, ["all"], noise_key=of_client, execution=one_thread)
            aggregate(run, noise_key=of_sum, round_number=number)
        return float(evaluate(run, threads=1).evaluations[0]["accuracy"])


def synthetic() -> Study:
    train = TrainPlan.of(epochs=1, batch_size=500, lr=0.2)
    return Study(DataSource(), 3, train, 8, 1e-5, q=0.25, sums=4, clip=1.0, plain_lr=0.03)


def of_clients() -> Study:
    train = TrainPlan.of(epochs=2, batch_size=20, lr=0.02)
    study = Study(DataSource(), 100, train, 8, 1e-3, q=1.0, sums=1, clip=0.3, plain_lr=0.02)
    return replace(study, of_clients=True)


def of_pictures(folder: Path, start: Path) -> Study:
    train = TrainPlan.of(epochs=1, batch_size=250, lr=1.0, freeze=("*", "!out"))
    source = DataSource(f"imagefolder:{folder}", limit=3000)
    study = Study(source, 3, train, 5, 1e-5, q=0.25, sums=4, clip=1.0, plain_lr=0.2)
    return replace(study, model="cnn", start=start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("study", choices=("synthetic", "clients", "pictures"))
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1, 2, 4, 8, math.inf])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rounds", type=int, help="in place of the study's")
    options = parser.parse_args()
    study = {"synthetic": synthetic, "clients": of_clients}.get(
        options.study, lambda: of_pictures(options.pictures, options.start)
    )()
    study = replace(study, rounds=options.rounds or study.rounds)
    options.runs.mkdir(parents=True, exist_ok=True)
    for epsilon in options.epsilons:
        sigma = study.sigma(epsilon) if math.isfinite(epsilon) else None
        roots = {s: options.runs / f"{options.study}-{epsilon:g}-{s}" for s in options.seeds}
        found = [100 * study.accuracy(root, sigma, seed) for seed, root in roots.items()]
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        noise = "" if sigma is None else f"{sigma:g}"
        print(f"| {epsilon:g} | {noise} | {statistics.fmean(found):.1f}{spread} |", flush=True)


if __name__ == "__main__":
    main()
