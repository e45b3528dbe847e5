"""Partition a data set into clients, and write the run and its starting model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fedcli.datasets import Dataset, Part, load_dataset
from fedcli.datasets.windows import parse_window
from fedcli.errors import BadInputError
from fedcli.formats.partition import Heterogeneity, PartitionFile
from fedcli.partitioning.heterogeneity import heterogeneity
from fedcli.partitioning.schemes import Scheme
from fedcli.progress import Progress, Silence
from fedcli.randomness import stream
from fedcli.run import Run
from fedcli.run.info import DatasetInfo, RunInfo
from fedcli.run.next_command import run_command, train_command
from fedcli.run.sampling import sampled_clients
from fedcli.security.signatures import coordinator_key
from fedcli.setup.data_source import DataSource
from fedcli.setup.existing_run import existing
from fedcli.setup.masked_run import SimulatedKeys, masked_simulation
from fedcli.setup.new_run import (
    built_aside,
    initial_model,
    inputs_of,
    other_seeds,
    plan_of,
    write_round_zero,
)
from fedcli.setup.partition_files import damaged_file, write_data
from fedcli.setup.shared_data import copy_data, info_like, read_partition
from fedcli.setup.split import Division, divide, pool_of
from fedcli.setup.start import Start

Item = TypeVar("Item")


if TYPE_CHECKING:
    from fedcli.models.start_weights import StartReport


@dataclass(frozen=True)
class Partition:
    """The result of ``partition``; counts are per class, in the order of ``classes``.

    ``test_label_counts`` is [] without a common test set; ``groups`` names the groups of each
    client, and is empty unless the partition is by groups; ``skipped`` are the files that
    ``--skip-bad`` left out. ``next`` is the command to type, and ``all_rounds`` one that trains
    every client in several rounds.
    """

    run: Path
    id: str
    already_done: bool
    dataset: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    window: tuple[float, ...] | None
    model: str
    scheme: str
    parameters: dict[str, Any]
    seed: int
    label_counts: dict[str, list[int]]
    validation_label_counts: dict[str, list[int]]
    client_test_label_counts: dict[str, list[int]]
    test_label_counts: list[int]
    groups: dict[str, list[str]]
    repaired: int
    skipped: tuple[str, ...]
    heterogeneity: Heterogeneity
    shard_bytes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform_input: bool
    start_weights: "StartReport | None"
    next: str
    all_rounds: str


def partition(
    root: Path,
    source: DataSource | None = None,
    scheme: Scheme | None = None,
    start: Start | None = None,
    *,
    noise_key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Partition:
    """Write ``data/``, round 0 and finally ``run.json`` at ``root``.

    With ``start.secagg``, updates are masked, and the keys of all parties are in ``keys/``.
    ``run.json`` commits to ``noise_key``, the file of the coordinator's noise key. An old run stays
    complete until the new one is. If the same run exists, nothing is touched except missing files
    of its ``data/``, which are written again. Raises ``UsageError``, ``NotReadyError``,
    ``DataError``, ``ConflictError`` and ``StorageError``, and what ``read_noise_key`` does.
    """
    source, scheme = source or DataSource(), scheme or Scheme()
    start = (start or Start()).settled().committed(noise_key, root)
    progress = progress or Silence()
    dataset = _dataset(source, _or(source.data_seed, start.seed), progress)
    seed = _or(scheme.partition_seed, start.seed)
    division = divide(dataset, scheme, source.val_fraction, source.test_split, seed)
    info, keys = masked_simulation(root, _info(division, source, start), start.secagg, force=force)
    run = existing(root, info, force=force)
    if run is not None:
        return _completed(run, division, progress)
    for line in division.left_out():
        progress.say(line)
    write = partial(write_data, division=division)
    return _made(root, info, start, write, keys, progress, force=force)


def partition_like(
    root: Path,
    source: Run,
    start: Start | None = None,
    *,
    noise_key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Partition:
    """Write a run at ``root`` with the clients and examples of another run, ``source``.

    The result is the run that ``partition`` makes of the same data set, which is not read again.
    Raises what ``partition`` does.
    """
    start = (start or Start()).settled().committed(noise_key, root)
    progress = progress or Silence()
    info, keys = masked_simulation(root, info_like(source, start), start.secagg, force=force)
    run = existing(root, info, force=force)
    if run is not None and damaged_file(run) is None:
        return _result(run, already_done=True)
    read_partition(source)
    if run is not None:
        copy_data(source, run, progress)
        return _result(run, already_done=False)
    write = partial(copy_data, source)
    return _made(root, info, start, write, keys, progress, force=force)


def _made(
    root: Path,
    info: RunInfo,
    start: Start,
    write: Callable[..., None],
    keys: SimulatedKeys | None,
    progress: Progress,
    *,
    force: bool,
) -> Partition:
    """Make a run whose data ``write`` writes."""
    model = initial_model(start, info)
    with built_aside(root, info, force=force) as run:
        write(run=run, progress=progress)
        if keys is not None:
            keys.write(run)
        write_round_zero(run, model, coordinator_key(run, None))
    return _result(Run.open(root), already_done=False, report=model.report)


def _or(own: int | None, seed: int) -> int:
    return seed if own is None else own


def _dataset(source: DataSource, seed: int, progress: Progress) -> Dataset:
    """Read the data set, reduced to ``--limit`` examples."""
    reading = replace(source, seed=seed, progress=progress)
    dataset = load_dataset(source.spec, reading, source.options)
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
    return part.subset(part.sample(count, stream(seed, purpose)))


def _info(division: Division, source: DataSource, start: Start) -> RunInfo:
    dataset, scheme = division.dataset, division.scheme
    mean, std = start.normalization(dataset.dtype.name, dataset.shape[0])
    return RunInfo(
        dataset=DatasetInfo(
            dataset.name,
            dataset.classes,
            dataset.shape,
            dataset.dtype.name,
            mean,
            std,
            parse_window(source.window),
        ),
        model=start.model,
        seed=start.seed,
        clients=tuple(one.id for one in division.clients),
        plan=plan_of(start, dataset.classes, dataset.shape),
        origin={
            "step": "partition",
            "data": dataset.identity,
            "scheme": scheme.name,
            "parameters": scheme.parameters(pool_of(dataset)),
            "val_fraction": source.val_fraction,
            **({} if source.test_split == "server" else {"test_split": source.test_split}),
            **other_seeds(
                start.seed, data_seed=source.data_seed, partition_seed=scheme.partition_seed
            ),
            **start.origin(),
        },
        noise_key=start.noise_key,
    )


def _completed(run: Run, division: Division, progress: Progress) -> Partition:
    """Write the data of a run again if files are missing; its id determines their content."""
    damaged = damaged_file(run)
    if damaged is None:
        return _result(run, already_done=True)
    progress.say(f"{damaged}: missing or damaged; writing the data again")
    write_data(run, division, progress)
    return _result(run, already_done=False)


def _result(run: Run, *, already_done: bool, report: "StartReport | None" = None) -> Partition:
    written = PartitionFile.try_read(run.partition_file)
    if written is None:
        raise BadInputError("was damaged just after it was written", path=run.partition_file)
    return Partition(
        run=run.root,
        id=run.id,
        already_done=already_done,
        dataset=run.info.dataset.name,
        classes=run.info.dataset.classes,
        shape=run.info.dataset.shape,
        window=run.info.dataset.window,
        model=run.info.model.name,
        scheme=written.scheme,
        parameters=written.parameters,
        seed=run.info.seed,
        label_counts=_lists(written.label_counts),
        validation_label_counts=_lists(written.validation_label_counts),
        client_test_label_counts=_lists(written.client_test_label_counts),
        test_label_counts=list(written.test_label_counts),
        groups=_lists(written.groups),
        repaired=written.repaired,
        skipped=written.skipped,
        heterogeneity=heterogeneity(written.label_counts),
        shard_bytes=sum(shard.bytes for shard in written.shards.values()),
        **inputs_of(run.info),
        start_weights=report,
        next=train_command(run, sampled_clients(run.info, 1)),
        all_rounds=run_command(run),
    )


def _lists(values: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    return {key: list(items) for key, items in values.items()}
