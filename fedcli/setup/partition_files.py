"""The files of ``data/``: the shards, and ``partition.json``."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedcli.datasets import Part
from fedcli.datasets.shards import ShardFormat, write_shard
from fedcli.errors import BadInputError
from fedcli.formats.records import ClientId, Count, read_record
from fedcli.partitioning import Indices, Labels, heterogeneity, label_counts
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.setup.split import Division
from fedcli.storage.atomic import write_json
from fedcli.text import brief

Counts = dict[ClientId, tuple[Count, ...]]


def write_data(run: Run, division: Division, progress: Progress) -> None:
    """Write the shards one after another, then ``partition.json``."""
    form = ShardFormat(run.id, division.dataset.shape, division.dataset.dtype)
    files = _files(run, division)
    progress.start("writing examples", sum(len(part.labels) for _, _, part in files))
    shards = {
        path.name: asdict(write_shard(path, client, part.labels, part.read, form, progress))
        for path, client, part in files
    }
    write_json(run.partition_file, _partition_json(run, division, shards))


def _files(run: Run, division: Division) -> list[tuple[Path, str | None, Part]]:
    """Each shard with the client that it belongs to; empty ones are not written."""
    files: list[tuple[Path, str | None, Part]] = []
    for one in division.clients:
        train, test = division.seen_by(one)
        files += [
            (run.client_shard(one.id), one.id, train.subset(one.train)),
            (run.validation_shard(one.id), one.id, train.subset(one.validation)),
            (run.client_test_shard(one.id), one.id, test.subset(one.test)),
        ]
    if division.test is not None:
        files.append((run.test_shard, None, division.test))
    return [file for file in files if len(file[2].labels)]


def _partition_json(run: Run, division: Division, shards: dict[str, Any]) -> dict[str, Any]:
    classes = division.dataset.classes
    labels, test_labels = division.dataset.train.labels, division.dataset.test.labels

    def counts(labels: Labels, chosen: dict[str, Indices]) -> dict[str, list[int]]:
        return {
            client: label_counts(labels[indices], len(classes))
            for client, indices in chosen.items()
            if len(indices)
        }

    trained = counts(labels, {one.id: one.train for one in division.clients})
    common = division.test
    return {
        "format": 1,
        "run": run.id,
        "scheme": run.info.origin["scheme"],
        "parameters": run.info.origin["parameters"],
        "seed": run.info.seed,
        "classes": classes,
        "groups": division.groups,
        "repaired": division.repaired,
        "label_counts": trained,
        "validation_label_counts": counts(
            labels, {one.id: one.validation for one in division.clients}
        ),
        "client_test_label_counts": counts(
            test_labels, {one.id: one.test for one in division.clients}
        ),
        "test_label_counts": [] if common is None else label_counts(common.labels, len(classes)),
        "heterogeneity": asdict(heterogeneity(trained)),
        "shards": shards,
    }


@dataclass(frozen=True)
class ShardFile:
    """What ``partition.json`` says of a file."""

    bytes: Count


@dataclass(frozen=True)
class PartitionFile:
    """``data/partition.json``; what an older version wrote lacks some of it."""

    scheme: str
    parameters: dict[str, Any]
    label_counts: Counts
    validation_label_counts: Counts
    test_label_counts: tuple[Count, ...]
    shards: dict[str, ShardFile]
    client_test_label_counts: Counts = field(default_factory=dict)
    groups: dict[ClientId, tuple[str, ...]] = field(default_factory=dict)
    repaired: Count = 0

    def __post_init__(self) -> None:
        """Refuse counts of different classes, and files elsewhere (``ValueError``)."""
        if len({len(counts) for counts in self.label_counts.values()}) > 1:
            raise ValueError("label_counts: expected a count for each class")
        if wrong := [name for name in self.shards if Path(name).name != name]:
            raise ValueError(f"shards: {brief(wrong[0])} is no name of a file in data/")


def read_partition(run: Run) -> PartitionFile | None:
    """Read ``partition.json``; None when there is none, or it cannot be understood."""
    try:
        return read_record(PartitionFile, run.partition_file)
    except BadInputError:
        return None


def damaged_file(run: Run) -> Path | None:
    """Return a file of ``data/`` that is missing, or does not have the size it was written with."""
    partition = read_partition(run)
    if partition is None:
        return run.partition_file
    for name, shard in partition.shards.items():
        path = run.partition_file.with_name(name)
        if not path.is_file() or path.stat().st_size != shard.bytes:
            return path
    return None
