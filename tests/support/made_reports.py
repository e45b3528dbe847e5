"""Reports of many runs, rounds or clients, without any training: values follow from the seed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from fedcli.formats.evaluation import ClassScore, RocCurve, Score
from fedcli.formats.partition import Heterogeneity
from fedcli.formats.telemetry import EpochFigures
from fedcli.reporting.compare import compare
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import ClientReport, ClientRound, Recipe, RoundReport, RunReport

ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fednova", "feddyn")
ALPHAS = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)
HOSPITALS = (
    "Universitätsklinikum Freiburg",
    "St. Mary's Hospital, London",
    "Hôpital Necker, Paris",
    "国立病院機構東京医療センター",
    "UMC",
)


def made_report(
    runs: int = 1,
    *,
    clients: int | tuple[str, ...] = 10,
    rounds: int = 10,
    classes: int = 10,
    alphas: int = 8,
    seeds: int = 1,
    labels: Sequence[str] = (),
) -> Report:
    """Compare runs that differ in algorithm, alpha and seed; ``seeds`` of them are one method."""
    names = tuple(map(str, range(clients))) if isinstance(clients, int) else clients
    cases = list(product(ALGORITHMS, ALPHAS[:alphas], range(seeds)))
    made = [_run(*case, names, rounds, classes) for case in cases[:runs]]
    labelled = zip(made, labels or [run.label for run in made], strict=True)
    return compare([replace(run, label=label) for run, label in labelled])


def _run(
    algorithm: str, alpha: float, seed: int, clients: tuple[str, ...], rounds: int, classes: int
) -> RunReport:
    rng = np.random.default_rng([len(algorithm), int(100 * alpha), seed])
    names = ("benign", "malignant") if classes == 2 else tuple(f"class {i}" for i in range(classes))
    best = 0.45 + 0.07 * ALGORITHMS.index(algorithm) + 0.02 * ALPHAS.index(alpha)
    history = tuple(_round(rng, n, rounds, best, clients, names) for n in range(rounds + 1))
    return RunReport(
        label=f"{algorithm}-alpha{alpha:g}-seed{seed}",
        path=f"runs/{algorithm}-alpha{alpha:g}-seed{seed}",
        run="0" * 16,
        dataset="cifar10",
        model="simple-cnn",
        scheme="dirichlet",
        classes=names,
        centralised=len(clients) == 1,
        test_content_sha256="7" * 64,
        rounds=history,
        clients=tuple(_client(rng, client, rounds, len(names)) for client in clients),
        notes=(),
        heterogeneity=Heterogeneity(0.4, 0.3, 0.2),
        seed=seed,
        parameters={"alpha": alpha},
        recipe=Recipe(
            data={"dataset": "cifar10"},
            partition={"scheme": "dirichlet", "alpha": alpha, "clients": len(clients)},
            train={"algorithm": algorithm, "lr": 0.01, "epochs": 10},
            seeds={"seed": seed},
            versions={"torch": ("2.9.0",)},
            commands=(f"fedcli partition --alpha {alpha:g} --seed {seed}", "fedcli run"),
        ),
        training={"algorithm": algorithm, "lr": 0.01},
        algorithm=algorithm,
    )


def _round(
    rng: np.random.Generator,
    number: int,
    rounds: int,
    best: float,
    clients: tuple[str, ...],
    classes: tuple[str, ...],
) -> RoundReport:
    share = best * (1 - np.exp(-5 * number / max(rounds, 1))) + 0.1 + 0.02 * rng.standard_normal()
    accuracy = float(np.clip(share, 0, 1))
    took_part = clients if number else ()
    return RoundReport(
        number=number,
        complete=True,
        rule=None if number == 0 else "fedavg",
        strategy=None if number == 0 else "fedavg",
        clients=tuple(_update(rng, client, number) for client in took_part),
        bytes_up=100_000 * len(took_part),
        bytes_down=100_000 * len(took_part),
        bytes_total=200_000 * len(clients) * number,
        training_seconds_max=12.5,
        training_seconds_sum=80.0,
        aggregation_seconds=0.25,
        evaluation_seconds=1.5,
        scores=(_score(accuracy, classes),),
    )


def _score(accuracy: float, classes: tuple[str, ...]) -> Score:
    right = round(1000 * accuracy)
    confusion = np.full((len(classes), len(classes)), (1000 - right) // max(1, len(classes) - 1))
    np.fill_diagonal(confusion, right)
    two = len(classes) == 2
    return Score(
        model="global",
        data="test",
        examples=1000 * len(classes),
        accuracy=accuracy,
        loss=3 * (1 - accuracy) ** 2 + 0.2,
        balanced_accuracy=accuracy,
        macro_f1=accuracy,
        auc=min(1.0, 0.5 + accuracy / 2) if two else None,
        sensitivity=accuracy if two else None,
        specificity=accuracy if two else None,
        roc=RocCurve((0, 100, 400, 1000), (0, right, (1000 + right) // 2, 1000)) if two else None,
        per_class=tuple(ClassScore(name, 1000, accuracy, accuracy) for name in classes),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def _update(rng: np.random.Generator, client: str, number: int) -> ClientRound:
    return ClientRound(
        client=client,
        num_examples=400,
        weight=0.1,
        bytes=100_000,
        update_round=number,
        norm=float((1 + rng.random()) / np.sqrt(number)),
        cosine=0.5,
        distance=1.0,
        seconds=10.0,
        device="cpu",
        epochs=(EpochFigures(1, 0.9, 0.6, 1.0),),
    )


def _client(rng: np.random.Generator, client: str, rounds: int, classes: int) -> ClientReport:
    counts = tuple(int(count) for count in rng.gamma(0.5, 200, classes))
    return ClientReport(
        client=client,
        examples=sum(counts),
        label_counts=counts,
        rounds=rounds,
        stale=0,
        local_loss=float(rng.random()),
        local_accuracy=float(rng.random()),
        seconds=float(100 * (1 + rng.random())),
        device="cpu",
        weight=0.1,
        bytes_up=100_000 * rounds,
        bytes_down=100_000 * rounds,
        validation_accuracy=float(0.5 + 0.4 * rng.random()),
    )
