"""The files of ``data/``: the shards, and ``partition.json``."""

from collections.abc import Callable
from pathlib import Path

from fedcli.datasets import Part
from fedcli.datasets.shards import ShardFormat, write_shard
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.partitioning.counts import label_counts
from fedcli.partitioning.heterogeneity import heterogeneity
from fedcli.partitioning.pool import Indices, Labels
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.setup.split import Client, Division
from fedcli.text import printable


def write_data(run: Run, division: Division, progress: Progress) -> None:
    """Write the shards one after another, then ``partition.json``."""
    form = ShardFormat(run.id, division.dataset.shape, division.dataset.dtype)
    files = _files(run, division)
    progress.start("writing examples", sum(len(part.labels) for _, _, part in files))
    shards = {
        path.name: write_shard(path, client, part.labels, part.read, form, progress)
        for path, client, part in files
    }
    _described(run, division, shards).write(run.partition_file)


def _files(run: Run, division: Division) -> list[tuple[Path, str | None, Part]]:
    """Return each shard that is not empty: its path, client and examples."""
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


def _described(run: Run, division: Division, shards: dict[str, ShardFile]) -> PartitionFile:
    classes = division.dataset.classes
    labels, test_labels = division.dataset.train.labels, division.dataset.test.labels

    def counts(labels: Labels, chosen: Callable[[Client], Indices]) -> dict[str, tuple[int, ...]]:
        return {
            one.id: tuple(label_counts(labels[chosen(one)], len(classes)))
            for one in division.clients
            if len(chosen(one))
        }

    trained = counts(labels, lambda one: one.train)
    common = division.test
    tested = [] if common is None else label_counts(common.labels, len(classes))
    return PartitionFile(
        run=run.id,
        scheme=run.info.origin["scheme"],
        parameters=run.info.origin["parameters"],
        seed=division.seed,
        classes=classes,
        groups={client: tuple(names) for client, names in division.groups.items()},
        repaired=division.repaired,
        skipped=tuple(map(printable, division.dataset.skipped)),
        label_counts=trained,
        validation_label_counts=counts(labels, lambda one: one.validation),
        client_test_label_counts=counts(test_labels, lambda one: one.test),
        test_label_counts=tuple(tested),
        heterogeneity=heterogeneity(trained),
        data_options=dict(division.dataset.options),
        shards=shards,
    )


def damaged_file(run: Run) -> Path | None:
    """Return a file of ``data/`` that is missing or has the wrong size, or None."""
    partition = PartitionFile.try_read(run.partition_file)
    if partition is None:
        return run.partition_file
    for name, shard in partition.shards.items():
        path = run.partition_file.with_name(name)
        if not path.is_file() or path.stat().st_size != shard.bytes:
            return path
    return None
