"""``partition``: seeds of data, partition and training apart from each other."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedcli.errors import UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind
from fedcli.formats.partition import PartitionFile
from fedcli.partitioning.schemes import Scheme
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.partition import partition
from fedcli.steps.verify import verify

LINEAR = Start(ModelInfo("linear"))
SMALL = DataSource(limit=60)


def shard_digests(root: Path) -> dict[str, str | None]:
    partition_file = PartitionFile.read(Run.open(root).partition_file)
    assert partition_file is not None
    return {name: shard.content_sha256 for name, shard in partition_file.shards.items()}


def test_data_partition_and_training_have_seeds_of_their_own(tmp_path: Path) -> None:
    cases = {
        "usual": (None, None, 0),
        "data": (7, None, 0),
        "partition": (None, 7, 0),
        "training": (0, 0, 7),
    }
    found, origins = {}, {}
    for name, (data, cut, seed) in cases.items():
        source, scheme = DataSource(limit=60, data_seed=data), Scheme(partition_seed=cut)
        partition(tmp_path / name, source, scheme, replace(LINEAR, seed=seed))
        found[name] = shard_digests(tmp_path / name)
        origins[name] = Run.open(tmp_path / name).info.origin
        assert verify(tmp_path / name).sound
    test = "test.safetensors"
    assert found["training"] == found["usual"]
    assert found["data"][test] != found["usual"][test]
    assert found["partition"][test] == found["usual"][test]
    assert found["partition"] != found["usual"]
    assert {"data_seed", "partition_seed"}.isdisjoint(origins["usual"])
    assert origins["partition"]["partition_seed"] == 7
    models = [tmp_path / name / "rounds/0000/global.safetensors" for name in ("usual", "training")]
    with Checkpoint(models[0], Kind.GLOBAL) as one, Checkpoint(models[1], Kind.GLOBAL) as other:
        name = next(iter(one.layout))
        assert (one.tensor(name) != other.tensor(name)).any()


def test_seeds_that_are_that_of_the_run_change_no_byte(tmp_path: Path) -> None:
    partition(tmp_path / "a", SMALL, Scheme(), replace(LINEAR, seed=4))
    source, scheme = replace(SMALL, data_seed=4), Scheme(partition_seed=4)
    partition(tmp_path / "b", source, scheme, replace(LINEAR, seed=4))
    assert Run.open(tmp_path / "a").id == Run.open(tmp_path / "b").id


@pytest.mark.parametrize("option", ["--data-seed", "--partition-seed"])
def test_a_seed_that_no_file_can_hold_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        DataSource(data_seed=2**63) if option == "--data-seed" else Scheme(partition_seed=2**63)
