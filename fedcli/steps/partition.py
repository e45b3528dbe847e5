"""Cut a data set into clients, and write the run and its starting model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.datasets import DataOptions, Dataset, Part, load_dataset
from fedcli.errors import UsageError
from fedcli.files import read_json, write_json
from fedcli.partitioning import (
    Indices,
    Scheme,
    cut,
    label_counts,
    stratified_sample,
)
from fedcli.progress import Progress, Silence
from fedcli.randomness import stream
from fedcli.run import Run
from fedcli.run_info import DatasetInfo, RunInfo
from fedcli.sampling import sampled_clients
from fedcli.shards import ShardFormat, write_shard
from fedcli.steps.new_run import Start, built_aside, existing, initial_model, write_round_zero


@dataclass(frozen=True)
class Source:
    """Which data a run is made from, and how much of it."""

    spec: str = "synthetic"
    data_dir: Path = Path("data")
    download: bool = False
    image_size: int | None = None
    test_fraction: float = 0.2
    val_fraction: float = 0.0
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be used (``UsageError``)."""
        if not 0 <= self.val_fraction < 1:
            raise UsageError(
                f"--val-fraction: expected a number from 0 to below 1, found {self.val_fraction}"
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit: expected 1 or more, found {self.limit}")


@dataclass(frozen=True)
class Partition:
    """What ``partition`` made; counts are per class, in the order of ``classes``."""

    run: Path
    id: str
    already_done: bool
    dataset: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    model: str
    scheme: str
    parameters: dict[str, Any]
    seed: int
    label_counts: dict[str, list[int]]
    validation_label_counts: dict[str, list[int]]
    test_label_counts: list[int]
    shard_bytes: int
    next: str


@dataclass(frozen=True)
class _Client:
    """The examples of one client: indices into the training part."""

    id: str
    train: Indices
    validation: Indices


def partition(
    root: Path,
    source: Source | None = None,
    scheme: Scheme | None = None,
    start: Start | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Partition:
    """Write ``data/``, round 0 and, last of all, ``run.json`` at ``root``.

    The old run stays whole until the new one is complete. When the same run is there already,
    nothing is touched; where files of its ``data/`` are gone, they are written again. Raises
    ``UsageError``, ``NotReadyError``, ``DataError``, ``ConflictError`` and ``StorageError``.
    """
    source, scheme, start = source or Source(), scheme or Scheme(), start or Start()
    progress = progress or Silence()
    dataset = _dataset(source, start.seed, progress)
    clients = _clients(dataset, scheme, source.val_fraction, start.seed)
    info = _info(dataset, source, scheme, start)
    run = existing(root, info, force=force)
    if run is not None:
        return _completed(run, dataset, clients, progress)
    _say_left_out(dataset, clients, progress)
    model = initial_model(start, info.dataset)
    with built_aside(root, info) as run:
        _write_data(run, dataset, clients, progress)
        write_round_zero(run, model)
    return _result(Run.open(root), already_done=False)


def _dataset(source: Source, seed: int, progress: Progress) -> Dataset:
    """Read the data set, cut down to ``--limit``."""
    options = DataOptions(
        source.data_dir,
        source.download,
        source.image_size,
        source.test_fraction,
        seed,
        progress,
    )
    dataset = load_dataset(source.spec, options)
    size = len(dataset.train.labels)
    if source.limit is None or source.limit >= size:
        return dataset
    tested = max(1, round(len(dataset.test.labels) * source.limit / size))
    return replace(
        dataset,
        train=_sampled(dataset.train, source.limit, seed, "limit"),
        test=_sampled(dataset.test, tested, seed, "test limit"),
        identity={**dataset.identity, "limit": source.limit},
    )


def _sampled(part: Part, count: int, seed: int, purpose: str) -> Part:
    return part.subset(stratified_sample(part.labels, count, stream(seed, purpose)))


def _clients(dataset: Dataset, scheme: Scheme, fraction: float, seed: int) -> list[_Client]:
    """Cut the training part, and hold out a part of each client's, class by class."""
    labels = dataset.train.labels
    clients = []
    for number, mine in enumerate(cut(labels, dataset.classes, scheme, seed)):
        held_out = np.empty(0, np.int64)
        if fraction > 0:
            count = max(1, round(fraction * len(mine)))
            if count >= len(mine):
                raise UsageError(
                    f"--val-fraction {fraction}: client {number} has only {len(mine)} examples",
                    hint="raise --min-size, or lower --val-fraction or --clients",
                )
            rng = stream(seed, "validation", number)
            held_out = mine[stratified_sample(labels[mine], count, rng)]
        clients.append(_Client(str(number), np.setdiff1d(mine, held_out), held_out))
    return clients


def _info(dataset: Dataset, source: Source, scheme: Scheme, start: Start) -> RunInfo:
    mean, std = start.normalization(dataset.dtype.name, dataset.shape[0])
    return RunInfo(
        dataset=DatasetInfo(
            dataset.name, dataset.classes, dataset.shape, dataset.dtype.name, mean, std
        ),
        model=start.model,
        seed=start.seed,
        clients=tuple(str(number) for number in range(scheme.clients)),
        plan=start.plan,
        origin={
            "step": "partition",
            "data": dataset.identity,
            "scheme": scheme.name,
            "parameters": scheme.parameters(dataset.classes),
            "val_fraction": source.val_fraction,
            **start.origin(),
        },
    )


def _say_left_out(dataset: Dataset, clients: Sequence[_Client], progress: Progress) -> None:
    given = np.concatenate([np.union1d(one.train, one.validation) for one in clients])
    used = np.unique(dataset.train.labels[given])
    left_out = [name for label, name in enumerate(dataset.classes) if label not in used]
    if left_out and len(given) < len(dataset.train.labels):
        progress.say(f"no client gets: {', '.join(left_out)} (the test set keeps them)")


def _write_data(run: Run, dataset: Dataset, clients: Sequence[_Client], progress: Progress) -> None:
    """Write the shards one after another, then ``partition.json``."""
    total = sum(len(c.train) + len(c.validation) for c in clients) + len(dataset.test.labels)
    progress.start("writing examples", total)
    form = ShardFormat(run.id, dataset.shape, dataset.dtype)
    shards: dict[str, dict[str, Any]] = {}

    def write(path: Path, client: str | None, part: Part) -> None:
        shards[path.name] = asdict(
            write_shard(path, client, part.labels, part.read, form, progress)
        )

    for client in clients:
        write(run.client_shard(client.id), client.id, dataset.train.subset(client.train))
        if len(client.validation):
            held_out = dataset.train.subset(client.validation)
            write(run.validation_shard(client.id), client.id, held_out)
    write(run.test_shard, None, dataset.test)
    write_json(run.partition_file, _partition_json(run, dataset, clients, shards))


def _partition_json(
    run: Run, dataset: Dataset, clients: Sequence[_Client], shards: dict[str, Any]
) -> dict[str, Any]:
    def counts(labels: NDArray[np.int64]) -> list[int]:
        return label_counts(labels, len(dataset.classes))

    labels = dataset.train.labels
    return {
        "format": 1,
        "run": run.id,
        "scheme": run.info.origin["scheme"],
        "parameters": run.info.origin["parameters"],
        "seed": run.info.seed,
        "classes": dataset.classes,
        "label_counts": {one.id: counts(labels[one.train]) for one in clients},
        "validation_label_counts": {
            one.id: counts(labels[one.validation]) for one in clients if len(one.validation)
        },
        "test_label_counts": counts(dataset.test.labels),
        "shards": shards,
    }


def _completed(
    run: Run, dataset: Dataset, clients: Sequence[_Client], progress: Progress
) -> Partition:
    """Write the data of a run again where files are gone; the run's id says what they hold."""
    damaged = _damaged(run)
    if damaged is None:
        return _result(run, already_done=True)
    progress.say(f"{damaged}: missing or damaged; writing the data again")
    _write_data(run, dataset, clients, progress)
    return _result(run, already_done=False)


def _damaged(run: Run) -> Path | None:
    """Return a file of ``data/`` that is missing, or does not have the size it was written with."""
    try:
        shards = read_json(run.partition_file)["shards"]
        sizes = {run.partition_file.with_name(name): shards[name]["bytes"] for name in shards}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return run.partition_file
    for path, size in sizes.items():
        if not path.is_file() or path.stat().st_size != size:
            return path
    return None


def _result(run: Run, *, already_done: bool) -> Partition:
    values = read_json(run.partition_file)
    return Partition(
        run=run.root,
        id=run.id,
        already_done=already_done,
        dataset=run.info.dataset.name,
        classes=run.info.dataset.classes,
        shape=run.info.dataset.shape,
        model=run.info.model.name,
        scheme=values["scheme"],
        parameters=values["parameters"],
        seed=run.info.seed,
        label_counts=values["label_counts"],
        validation_label_counts=values["validation_label_counts"],
        test_label_counts=values["test_label_counts"],
        shard_bytes=sum(shard["bytes"] for shard in values["shards"].values()),
        next=run.command(f"train-client --id {sampled_clients(run.info, 1)[0]}"),
    )
