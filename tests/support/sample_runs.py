"""Runs written by hand, with everything that a report reads."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.round import Round
from fedcli.storage.atomic import write_json
from support.runs import ROLES, deliver, run_info, tensors

HOSTILE = ("<script>alert(1)</script>", "$x$ & 'y'", "a|b*c_[d]", "evil\x1b[31m")


def make_run(
    root: Path,
    *,
    clients: tuple[str, ...] = ("0", "1", "2"),
    classes: tuple[str, ...] = ("ant", "bee", "cat", "dog"),
    accuracies: tuple[float, ...] = (0.4, 0.55, 0.5),
    plan: Plan | None = None,
    seed: int = 0,
    alpha: float = 0.5,
    own_seeds: Mapping[str, int] | None = None,
) -> Run:
    """Write a run with one complete, evaluated round per accuracy."""
    info = replace(run_info(clients), seed=seed)
    info = replace(info, origin={**info.origin, **(own_seeds or {})})
    dataset = replace(info.dataset, classes=classes)
    run = Run.create(root, replace(info, dataset=dataset, plan=plan or info.plan))
    _write_partition(run, run.info, alpha)
    save(run.round(0).global_model, tensors(0), Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES))
    for number, accuracy in enumerate(accuracies, 1):
        write_round(run, run.round(number))
        write_evaluation(run.round(number), [score(run, accuracy)])
    return run


def _write_partition(run: Run, info: RunInfo, alpha: float) -> None:
    count = len(info.dataset.classes)
    counts = {c: tuple((i + n) % 3 * 10 for n in range(count)) for i, c in enumerate(info.clients)}
    shards = {
        f"client-{client}.safetensors": ShardFile("8" * 64, sum(counts[client]), 1_000_000)
        for client in info.clients
    }
    test = ShardFile("9" * 64, 25 * count, 1_000_000, "7" * 64)
    PartitionFile(
        run=run.id,
        seed=info.seed,
        scheme="dirichlet",
        parameters={"alpha": alpha},
        classes=info.dataset.classes,
        label_counts=counts,
        test_label_counts=(25,) * count,
        shards={**shards, "test.safetensors": test},
    ).write(run.partition_file)
    for shard in (run.test_shard, *map(run.client_shard, info.clients)):
        shard.touch()


def write_round(run: Run, round_: Round) -> None:
    """Write the updates, their telemetry, the manifest and the global model of one round."""
    accepted = []
    for client in run.info.clients:
        sha256 = deliver(run, client, tensors(round_.number), round_number=round_.number)
        size = round_.update(client).stat().st_size
        write_json(round_.telemetry(client), telemetry(client, round_.number, sha256))
        weight = 1 / len(run.info.clients)
        accepted.append(
            {"client": client, "sha256": sha256, "num_examples": 40, "weight": weight}
            | {"bytes": size, "round": round_.number, "norm": 2.0, "cosine": 0.5, "distance": 1.0}
            | {"kept": True}
        )
    metadata = Metadata(Kind.GLOBAL, run.id, round=round_.number, roles=ROLES)
    sha256 = save(round_.global_model, tensors(round_.number), metadata)
    write_json(
        round_.manifest,
        {
            "format": 1,
            "round": round_.number,
            "strategy": "fedavg",
            "reduce": "mean",
            "server_optimizer": "sgd",
            "weighting": "examples",
            "options": {"server_lr": 1.0, "server_momentum": 0.0},
            "base": "0" * 64,
            "global": sha256,
            "server_state": None,
            "sampled": None,
            "accepted": accepted,
            "partials": [],
            "missing": [],
            "late": [],
            "rejected": [],
            "seconds": 0.5,
        },
    )


def edit_manifest(round_: Round, **changes: Any) -> None:
    """Change what a manifest says; ``accepted`` maps clients to what is different of them."""
    manifest = json.loads(round_.manifest.read_text())
    accepted = changes.pop("accepted", {})
    for entry in manifest["accepted"]:
        entry.update(accepted.get(entry["client"], {}))
    write_json(round_.manifest, manifest | changes)


def without(round_: Round, client: str) -> None:
    """Take a client's update out of a round, as if it had never been sent."""
    manifest = json.loads(round_.manifest.read_text())
    kept = [entry for entry in manifest["accepted"] if entry["client"] != client]
    write_json(round_.manifest, manifest | {"accepted": kept})
    round_.update(client).unlink()
    round_.telemetry(client).unlink()


def telemetry(client: str, number: int, sha256: str) -> dict[str, Any]:
    """What a client writes beside its update; each takes a second longer than the one before."""
    seconds = float(number + (int(client) if client.isdecimal() else 0))
    return {
        "format": 1,
        "client": client,
        "round": number,
        "sha256": sha256,
        "num_examples": 40,
        "seconds": seconds,
        "images_per_second": 100.0,
        "device": "cpu",
        "peak_memory_bytes": 1_000_000,
        "epochs": [
            {"epoch": 1, "loss": 2.0, "accuracy": 0.25, "seconds": 1.0},
            {"epoch": 2, "loss": 1.0, "accuracy": 0.75, "seconds": 1.0},
        ],
    }


def score(run: Run, accuracy: float, **changes: Any) -> dict[str, Any]:
    """An entry of evaluation.json; ``changes`` say of what it is, by default the test set."""
    classes = run.info.dataset.classes
    right = round(100 * accuracy)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.fill_diagonal(confusion, right)
    confusion[np.arange(len(classes)), np.roll(np.arange(len(classes)), 1)] += 100 - right
    return {
        "model": "global",
        "client": None,
        "sha256": None,
        "data": "test",
        "data_client": None,
        "classes": None,
        "examples": 100 * len(classes),
        "loss": 1 - accuracy,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "macro_f1": accuracy,
        "auc": None,
        **({"sensitivity": accuracy, "specificity": accuracy} if len(classes) == 2 else {}),
        "per_class": [
            {"class": name, "examples": 100, "accuracy": accuracy, "f1": accuracy}
            for name in classes
        ],
        "confusion": confusion.tolist(),
        "seconds": 0.25,
        **changes,
    }


def write_evaluation(round_: Round, results: list[dict[str, Any]]) -> None:
    """Write evaluation.json."""
    write_json(round_.evaluation, {"format": 1, "round": round_.number, "results": results})
