"""Two of ten clients attack: what is left of the accuracy under each rule of aggregation?

    python examples/robustness.py [FOLDER] [--model linear] [--alpha 1] [--seeds 0,1,2]

Prints a table in Markdown: a row for each rule, a column for each attack. FOLDER (by default
./robustness) keeps every run, for `fedcli report FOLDER/RUN`. How to read it: docs/robustness.md.

An attacker changes what it sends, or the labels of its own examples, and nothing else. Clients get
their examples at random (IID), or with --alpha by a Dirichlet distribution. What they trained in
round 1 is shared by all runs of a seed, since all of them start from the same model.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.datasets.shards import read_shard
from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.randomness import stream
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.run.round import Round
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.evaluate import evaluate
from fedcli.steps.partition import partition
from fedcli.steps.train_client import train_client
from fedcli.storage.atomic import read_json, write_json

CLIENTS = 10
ATTACKERS = ("8", "9")
TRAINING = {
    "linear": TrainPlan(epochs=1, lr=0.003),
    "cnn": TrainPlan(epochs=1, lr=0.04, batch_size=32),
}
# A rule of aggregation is what `fedcli aggregate --strategy` takes, with its options.
RULES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "median": {},
    "trimmed-mean": {"trim": 0.2},
    "krum": {"byzantine": 2},
    "multi-krum": {"byzantine": 2},
    "bulyan": {"byzantine": 1},  # 2 would need 4 * 2 + 3 = 11 clients
    "rfa": {},
    "clipped-mean": {},  # these two are given --clip-norm below
    "centered-clipping": {},
    "foolsgold": {},
}
CLIPPING = ("clipped-mean", "centered-clipping")
Step = Mapping[str, NDArray[np.floating[Any]]]


def sign_flip(step: Step, rng: np.random.Generator) -> Step:
    """Go the other way, ten times as far."""
    return {name: -10 * values for name, values in step.items()}


def noise(step: Step, rng: np.random.Generator, times: float) -> Step:
    """Add Gaussian noise that is as many times as long as the honest step."""
    count = sum(values.size for values in step.values())
    squares = sum(float(np.square(values, dtype=np.float64).sum()) for values in step.values())
    sigma = np.float32(times * (squares / count) ** 0.5)
    return {
        name: values + sigma * rng.standard_normal(values.shape, np.float32)
        for name, values in step.items()
    }


# What an attacker makes of the step from the model it was given to the one it trained.
CHANGES: dict[str, Callable[[Step, np.random.Generator], Step]] = {
    "sign flip ×10": sign_flip,
    "noise ×10": partial(noise, times=10),
    "noise ×100": partial(noise, times=100),
}
ATTACKS = ("none", *CHANGES, "label flip")


@dataclass(frozen=True)
class Case:
    """One run of the experiment; ``start`` is the run whose first updates it takes over."""

    start: Path
    rule: str
    attack: str
    clip_norm: float
    rounds: int

    @property
    def root(self) -> Path:
        attack = self.attack.replace(" ", "-").replace("×", "")
        return self.start.parent / f"{self.rule}-{attack}-{self.start.name}"

    @property
    def options(self) -> dict[str, Any]:
        clipping = {"clip_norm": self.clip_norm} if self.rule in CLIPPING else {}
        return {"strategy": self.rule, **RULES[self.rule], **clipping}


def first_updates(arguments: argparse.Namespace, seed: int) -> Path:
    """Cut the data, and let every client train for round 1, honestly."""
    root: Path = arguments.folder / f"seed-{seed}"
    scheme = Scheme("iid", clients=CLIENTS)
    if arguments.alpha is not None:
        scheme = Scheme("dirichlet", clients=CLIENTS, alpha=arguments.alpha, min_size=10)
    plan = Plan(train=TRAINING[arguments.model])
    start = Start(ModelInfo(arguments.model), plan=plan, seed=seed)
    partition(root, DataSource("synthetic", limit=arguments.limit), scheme, start)
    train_client(Run.open(root), ["all"], execution=Execution(threads=1))
    return root


def honest_norm(start: Path) -> float:
    """Return the median norm of the honest updates of round 1, from the manifest of their mean."""
    root = start.with_name(f"{start.name}-norms")
    shutil.copytree(start, root)
    clients = aggregate(Run.open(root)).clients
    shutil.rmtree(root)
    return median(client.norm for client in clients if client.norm is not None)


def replace_update(run: Run, round_: Round, client: str, attack: str) -> None:
    """Write what an attacker sends in place of what it trained, with a digest that fits."""
    with Checkpoint(run.round(round_.number - 1).global_model) as base:
        before = base.tensors()
    with Checkpoint(round_.update(client)) as update:
        after, metadata = update.tensors(), update.metadata
    step = {name: after[name] - before[name] for name in after if name not in metadata.roles}
    rng = stream(run.info.seed, round_.number, client, attack)
    changed = {name: before[name] + values for name, values in CHANGES[attack](step, rng).items()}
    sha256 = save(round_.update(client), {**after, **changed}, metadata)
    noted = read_json(round_.telemetry(client))
    write_json(round_.telemetry(client), {**noted, "sha256": sha256})


def train_on_flipped_labels(run: Run, client: str) -> None:
    """Train an attacker on its own pictures, with class 9 for 0, 8 for 1, and so on."""
    own = read_shard(run.client_shard(client))
    flipped = run.client_shard(client).with_suffix(".flipped.npz")
    np.savez(flipped, x=own.x, y=len(run.info.dataset.classes) - 1 - own.y)
    train_client(run, [client], data=str(flipped), execution=Execution(threads=1), force=True)


def do_round(run: Run, round_: Round, case: Case) -> float:
    """Train honest clients and attackers, aggregate, and return the accuracy."""
    honest = [client for client in run.info.clients if client not in ATTACKERS]
    train_client(run, honest, execution=Execution(threads=1))
    for client in ATTACKERS:
        if case.attack == "label flip":
            train_on_flipped_labels(run, client)
        else:
            train_client(run, [client], execution=Execution(threads=1))
        if case.attack in CHANGES:
            replace_update(run, round_, client, case.attack)
    aggregate(run, options=case.options)
    accuracy: float = evaluate(run, threads=1).evaluations[0]["accuracy"]
    return accuracy


def play(case: Case) -> float:
    """Do the rounds of a case and return the accuracy of the last model that could be scored."""
    shutil.copytree(case.start, case.root)
    run = Run.open(case.root)
    accuracy = 0.0
    for number in range(1, case.rounds + 1):
        round_ = run.round(number)
        try:
            accuracy = do_round(run, round_, case)
        except FedcliError as error:  # such as training that diverges, from a model that is ruined
            print(f"{case.root.name} ends in round {number}: {error.message}", file=sys.stderr)
            break
        for client in run.info.clients:  # they take much room; the manifest keeps their figures
            round_.update(client).unlink()
    print(f"{case.root.name}: {accuracy:.1%}", file=sys.stderr)
    return accuracy


def table(rules: list[str], found: Mapping[tuple[str, str], list[float]]) -> str:
    """Return Markdown: accuracies, and by how much they differ from those without an attack."""
    lines = [f"| rule | {' | '.join(ATTACKS)} |", "| --- |" + " ---: |" * len(ATTACKS)]
    for rule in rules:
        clean = 100 * fmean(found[rule, "none"])
        cells = [f"{clean:.1f}"]
        for attack in ATTACKS[1:]:
            accuracy = 100 * fmean(found[rule, attack])
            cells.append(f"{accuracy:.1f} ({accuracy - clean:+.1f})".replace("-", "−"))
        options = "".join(f" --{name} {value}" for name, value in RULES[rule].items())
        lines.append(f"| {rule}{options} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("robustness"))
    parser.add_argument("--model", choices=TRAINING, default="linear")
    parser.add_argument("--alpha", type=float, help="cut by Dirichlet's distribution, not IID")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", default="0", help="the table shows the mean over these")
    parser.add_argument("--rules", default=",".join(RULES), help=f"some of {', '.join(RULES)}")
    parser.add_argument("--limit", type=int, help="training examples of all clients together")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    arguments = parser.parse_args()
    if unknown := set(arguments.rules.split(",")) - set(RULES):
        parser.error(f"--rules: unknown {', '.join(unknown)}")
    if arguments.folder.exists():
        parser.error(f"{arguments.folder}: exists; remove it or name another")
    return arguments


def main() -> None:
    arguments = parse()
    rules = arguments.rules.split(",")
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        seeds = map(int, arguments.seeds.split(","))
        starts = list(pool.map(partial(first_updates, arguments), seeds))
        norms = list(pool.map(honest_norm, starts))
        cases = [
            Case(start, rule, attack, norm, arguments.rounds)
            for start, norm in zip(starts, norms, strict=True)
            for rule in rules
            for attack in ATTACKS
        ]
        found: dict[tuple[str, str], list[float]] = {}
        for case, accuracy in zip(cases, pool.map(play, cases), strict=True):
            found.setdefault((case.rule, case.attack), []).append(accuracy)
    print(table(rules, found))
    spread = 100 * max(max(values) - min(values) for values in found.values())
    several = f" (a cell is their mean; they differ by up to {spread:.1f})" if starts[1:] else ""
    print(
        f"\nAccuracy (%) of the {arguments.model} model after round {arguments.rounds}; seeds"
        f" {arguments.seeds}{several}; --clip-norm {', '.join(f'{norm:.3g}' for norm in norms)}"
    )


if __name__ == "__main__":
    main()
