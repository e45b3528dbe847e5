"""``partition --data-of``: the clients and examples of another run, not read again."""

from dataclasses import replace
from pathlib import Path

import pytest

import fedcli.steps.partition as partition_module
from fedcli.cli import execute
from fedcli.errors import BadInputError, NotReadyError, UsageError
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import Plan, TrainPlan
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.partition import partition, partition_like
from fedcli.steps.verify import verify

LINEAR = Start(ModelInfo("linear"))
OTHER = Start(ModelInfo("linear"), plan=Plan(TrainPlan(lr=0.5)))
SMALL = DataSource(limit=60, val_fraction=0.2, test_split="both")


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def source(tmp_path: Path) -> Run:
    partition(tmp_path / "source", SMALL, Scheme("dirichlet", alpha=0.5), LINEAR)
    return Run.open(tmp_path / "source")


def test_it_is_the_run_that_partition_makes(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition(tmp_path / "cut", SMALL, Scheme("dirichlet", alpha=0.5), OTHER)
    monkeypatch.delattr(partition_module, "load_dataset")  # nothing is read again
    result = partition_like(tmp_path / "copied", source, OTHER)
    assert contents(tmp_path / "copied") == contents(tmp_path / "cut")
    assert not result.already_done
    assert verify(tmp_path / "copied").sound
    assert partition_like(tmp_path / "copied", source, OTHER).already_done


def test_another_seed_leaves_clients_and_examples_as_they_are(source: Run, tmp_path: Path) -> None:
    third = replace(OTHER, seed=3)
    cut = DataSource(limit=60, val_fraction=0.2, test_split="both", data_seed=0)
    partition(tmp_path / "cut", cut, Scheme("dirichlet", alpha=0.5, partition_seed=0), third)
    partition_like(tmp_path / "copied", source, third)
    assert contents(tmp_path / "copied") == contents(tmp_path / "cut")
    partition_like(tmp_path / "back", Run.open(tmp_path / "copied"), LINEAR)
    assert contents(tmp_path / "back") == contents(source.root)
    assert verify(tmp_path / "copied").sound


def test_a_lost_shard_is_copied_again(source: Run, tmp_path: Path) -> None:
    partition_like(tmp_path / "copied", source, OTHER)
    before = contents(tmp_path / "copied")
    (tmp_path / "copied" / "data" / "client-1.safetensors").unlink()
    assert not partition_like(tmp_path / "copied", source, OTHER).already_done
    assert contents(tmp_path / "copied") == before


def test_a_damaged_source_is_named_and_nothing_is_made(source: Run, tmp_path: Path) -> None:
    shard = source.client_shard("2")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadInputError, match="client-2") as caught:
        partition_like(tmp_path / "copied", source, OTHER)
    assert caught.value.path == shard
    assert not (tmp_path / "copied" / "run.json").exists()


def test_a_run_without_data_has_none_to_take(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="not made by fedcli partition"):
        partition_like(tmp_path / "copied", tiny_run, OTHER)


def test_options_of_data_are_refused_beside_it(
    source: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        execute(["partition", "--data-of", str(source.root), "--alpha", "3"]) == UsageError.status
    )
    assert "--alpha: --data-of takes" in capsys.readouterr().err


def test_the_command_makes_the_run(source: Run, tmp_path: Path) -> None:
    words = ["--run", tmp_path / "copied", "--data-of", source.root, "--model", "linear"]
    assert execute(["partition", *map(str, words), "--lr", "0.5", "--quiet"]) == 0
    partition_like(tmp_path / "wanted", source, OTHER)
    assert contents(tmp_path / "copied") == contents(tmp_path / "wanted")
