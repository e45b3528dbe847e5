"""Checks of ``data/``: ``partition.json`` and the shards."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import DTYPE_NAMES
from fedcli.formats.metadata import Kind
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.run import Run
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Claim, Survey, expect, expect_place

_SHARD = (Problem.MISSING, "is not in the run: deleted, or kept where the client is")


def check_data(survey: Survey) -> None:
    """Check ``partition.json`` against ``run.json``, and the shards against both."""
    run, path = survey.run, survey.run.partition_file
    if run.info.origin.get("step") != "partition" and not path.exists():
        return
    missing = (Problem.MISSING, "is missing; no shard can be checked without it")
    partition = survey.record(Section.DATA, path, PartitionFile, missing)
    if partition is None:
        return
    _compare(survey, path, partition)
    for name, shard in partition.shards.items():
        _check_shard(survey, partition, name, shard)


def _compare(survey: Survey, path: Path, partition: PartitionFile) -> None:
    info = survey.run.info
    for what, expected, found in (
        ("run", survey.run.id, partition.run),
        ("seed", info.partition_seed, partition.seed),
        ("classes", info.dataset.classes, partition.classes),
        ("scheme", info.origin.get("scheme"), partition.scheme),
        ("parameters", info.origin.get("parameters"), partition.parameters),
    ):
        if expected != found:
            survey.add(Problem.CHANGED, path, f"{what}: expected {expected}, found {found}")


def _check_shard(survey: Survey, partition: PartitionFile, name: str, shard: ShardFile) -> None:
    path, run = survey.run.partition_file.with_name(name), survey.run
    client, counts = partition.labels_of(name)
    labels = bytearray()

    def consume(found: Checkpoint, piece: memoryview, start: int) -> None:
        y = found.layout.get("y")
        if y is not None and y.stop - y.start == 8 * shard.examples:
            labels.extend(piece[max(0, y.start - start) : max(0, y.stop - start)])

    def check(found: Checkpoint) -> None:
        expect_place(run, found.metadata, None, client)
        _check_tensors(run, found)
        found_counts = _counts(np.frombuffer(labels, "<i8"), len(run.info.dataset.classes))
        if counts is not None and found_counts != counts:
            raise ValueError(f"label counts: expected {counts}, found {found_counts}")

    survey.claim(path, Claim(run.partition_file, shard.sha256, shard.bytes, shard.examples))
    survey.checkpoint(Section.DATA, path, Kind.SHARD, check, _SHARD, consume)


def _check_tensors(run: Run, found: Checkpoint) -> None:
    dataset = run.info.dataset
    expect("tensors", ["x", "y"], sorted(found.layout))
    x, y = found.layout["x"], found.layout["y"]
    count = found.metadata.num_examples
    expect("y", ("I64", (count,)), (DTYPE_NAMES[y.dtype], y.shape))
    expect("x: dtype", dataset.dtype, x.dtype.name)
    expect("x: shape", (count, *dataset.shape), x.shape)


def _counts(labels: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"has labels from {labels.min()} to {labels.max()} of {classes} classes")
    return tuple(np.bincount(labels, minlength=classes).tolist())
