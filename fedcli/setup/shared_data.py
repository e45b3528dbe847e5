"""The data of another run, for a run that differs from it in model, plan or seed."""

from dataclasses import replace

from fedcli.datasets.shards import ShardFormat, read_shard, write_shard
from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.partition import PartitionFile, ShardFile
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.setup.new_run import other_seeds, plan_of
from fedcli.setup.start import Start

_WHOLE = "repeat the fedcli partition that made it, or take another run"


def info_like(run: Run, start: Start) -> RunInfo:
    """Describe a new run that has the data of ``run``.

    It is the run that ``fedcli partition`` makes of the same data set. Raises ``UsageError``, and
    ``NotReadyError`` for a run without data.
    """
    data, origin = run.info.dataset, run.info.origin
    if origin.get("step") != "partition":
        raise NotReadyError(
            "was not made by fedcli partition, so there is no data to take", path=run.root
        )
    mean, std = start.normalization(data.dtype, data.shape[0])
    own = {"data_seed": run.info.data_seed, "partition_seed": run.info.partition_seed}
    seeds = other_seeds(start.seed, **own)
    cut = {key: value for key, value in origin.items() if key not in own}
    return RunInfo(
        dataset=replace(data, mean=mean, std=std),
        model=start.model,
        seed=start.seed,
        clients=run.info.clients,
        plan=plan_of(start, data.classes, data.shape),
        origin={**cut, **seeds, **start.origin()},
        noise_key=start.noise_key,
    )


def copy_data(source: Run, run: Run, progress: Progress) -> None:
    """Write the shards of ``source`` as those of ``run``, then ``partition.json``.

    The names of runs stand in shards, so they cannot be links. Raises ``NotReadyError`` and
    ``BadInputError`` for shards that are missing or damaged.
    """
    described = read_partition(source)
    progress.start("copying examples", sum(one.examples for one in described.shards.values()))
    shards = {
        name: _copied(source, run, name, shard, described, progress)
        for name, shard in described.shards.items()
    }
    replace(described, run=run.id, shards=shards).write(run.partition_file)


def read_partition(run: Run) -> PartitionFile:
    """Read how the data of a run was cut. Raises ``NotReadyError`` without its data."""
    described = PartitionFile.try_read(run.partition_file)
    if described is None:
        raise NotReadyError("is missing or damaged", hint=_WHOLE, path=run.partition_file)
    return described


def _copied(
    source: Run, run: Run, name: str, shard: ShardFile, described: PartitionFile, progress: Progress
) -> ShardFile:
    data, path = run.info.dataset, source.partition_file.with_name(name)
    examples = read_shard(path, source)
    form = ShardFormat(run.id, data.shape, examples.x.dtype)
    client, _ = described.labels_of(name)
    copy = write_shard(
        run.partition_file.with_name(name),
        client,
        examples.y,
        lambda numbers: examples.x[numbers],
        form,
        progress,
    )
    if shard.content_sha256 not in (None, copy.content_sha256):
        raise BadInputError(
            "its examples are not those it was written with", hint=_WHOLE, path=path
        )
    return copy
