"""``partition``: what is written, that it is written once, and what is refused."""

import errno
import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import python

import fedcli.steps.partition as partition_module
from fedcli.datasets import pictures
from fedcli.datasets.shards import read_shard
from fedcli.errors import (
    ConflictError,
    DataError,
    NotReadyError,
    RunFormatError,
    StorageError,
    UsageError,
)
from fedcli.formats import checkpoint
from fedcli.formats.metadata import Kind
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import Plan, TrainPlan
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.partition import partition

LINEAR = Start(ModelInfo("linear"))
SMALL = DataSource(limit=60)


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a directory: its bytes and when it was written."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files
    }


def names(directory: Path) -> list[str]:
    """What a directory holds, hidden files too."""
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures that can be told apart by their first pixel."""
    for half, first in (("train", 0), ("test", 100)):
        for label, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / "pictures" / half / name).mkdir(parents=True)
            for number in range(10):
                colour = (first + label * 10 + number, label, 0)
                path = tmp_path / "pictures" / half / name / f"{number}.png"
                Image.new("RGB", (8, 8), colour).save(path)
    return tmp_path / "pictures"


# what is written


def test_every_picture_is_in_one_shard_with_its_label(tmp_path, folder):
    source = DataSource(f"imagefolder:{folder}", val_fraction=0.2)
    result = partition(tmp_path / "run", source, Scheme("dirichlet", 3, min_size=2), LINEAR)
    run = Run.open(tmp_path / "run")
    clients = [read_shard(run.client_shard(client)) for client in run.info.clients]
    held_out = [read_shard(run.validation_shard(client)) for client in run.info.clients]
    everything = [*clients, *held_out]
    seen = np.concatenate([one.x[:, 0, 0, 0] for one in everything])
    assert sorted(seen.tolist()) == list(range(30))
    for one in [*everything, read_shard(run.test_shard)]:
        assert one.x.shape == (len(one), 3, 8, 8)
        assert np.array_equal(one.x[:, 1, 0, 0], one.y)
    assert read_shard(run.test_shard).x[:, 0, 0, 0].tolist() == list(range(100, 130))
    for client, own, out in zip(run.info.clients, clients, held_out, strict=True):
        assert result.label_counts[client] == np.bincount(own.y, minlength=3).tolist()
        assert result.validation_label_counts[client] == np.bincount(out.y, minlength=3).tolist()


def test_the_files_are_exactly_those_of_the_specification(tmp_path):
    result = partition(tmp_path / "run", replace(SMALL, val_fraction=0.1), Scheme("iid", 2), LINEAR)
    assert list(contents(tmp_path / "run")) == [
        "data/client-0.safetensors",
        "data/client-0.val.safetensors",
        "data/client-1.safetensors",
        "data/client-1.val.safetensors",
        "data/partition.json",
        "data/test.safetensors",
        "rounds/0000/global.safetensors",
        "run.json",
    ]
    values = json.loads((tmp_path / "run/data/partition.json").read_text())
    for name, shard in values["shards"].items():
        path = tmp_path / "run" / "data" / name
        assert shard["sha256"] == checkpoint.digest(path)
        assert shard["bytes"] == path.stat().st_size
        examples = read_shard(path)
        content = hashlib.sha256(examples.y.tobytes() + examples.x.tobytes())
        assert shard["content_sha256"] == content.hexdigest()
        assert shard["examples"] == len(examples)
    assert values["run"] == result.id == Run.open(tmp_path / "run").id
    with checkpoint.Checkpoint(tmp_path / "run/data/client-1.safetensors", Kind.SHARD) as shard:
        assert (shard.metadata.run, shard.metadata.client) == (result.id, "1")
        assert shard.metadata.num_examples == 27


def test_the_starting_model_is_that_of_the_seed(tmp_path):
    digests = [
        [
            checkpoint.digest(partition(root, SMALL, Scheme(), start).run / file)
            for file in ("rounds/0000/global.safetensors", "data/client-0.safetensors")
        ]
        for root, start in (
            (tmp_path / "a", LINEAR),
            (tmp_path / "b", LINEAR),
            (tmp_path / "c", replace(LINEAR, seed=1)),
        )
    ]
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


def test_two_runs_with_one_test_set_have_its_content_in_common(tmp_path):
    first, second = (
        json.loads((partition(tmp_path / cut.name, SMALL, cut, LINEAR).run / "data/partition.json")
                   .read_text())["shards"]["test.safetensors"]
        for cut in (Scheme("iid", 2), Scheme("dirichlet", 3))
    )  # fmt: skip
    assert first["content_sha256"] == second["content_sha256"]
    assert first["sha256"] != second["sha256"]


def test_run_json_holds_no_path(tmp_path, folder):
    weights = tmp_path / "run0" / "rounds" / "0000" / "global.safetensors"
    source = DataSource(f"imagefolder:{folder}")
    partition(tmp_path / "run0", source, Scheme(), LINEAR)
    partition(tmp_path / "run1", source, Scheme(), replace(LINEAR, init_from=weights, seed=3))
    text = (tmp_path / "run1" / "run.json").read_text()
    assert checkpoint.digest(weights) in text
    assert str(tmp_path) not in text
    assert "pictures" not in text


def test_a_limit_keeps_the_classes_and_the_share_of_the_test_set(tmp_path):
    result = partition(tmp_path / "run", DataSource(limit=600), Scheme("iid", 1), LINEAR)
    assert result.label_counts == {"0": [60] * 10}
    assert result.test_label_counts == [10] * 10


def test_many_clients_need_few_open_files(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/dev/fd").iterdir())) + 48  # other tests may have left connections open
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(few, hard), hard))
    try:
        partition(tmp_path / "run", DataSource(limit=400), Scheme("iid", 200), LINEAR)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list((tmp_path / "run" / "data").iterdir())) == 202


# test examples of the clients


@pytest.mark.parametrize("split", ["client", "both"])
def test_each_client_has_test_examples_like_its_training_examples(tmp_path, folder, split):
    source = DataSource(f"imagefolder:{folder}", test_split=split, val_fraction=0.2)
    scheme = Scheme("labels", labels=(("ant", "bee"), ("bee",)))
    result = partition(tmp_path / "run", source, scheme, LINEAR)
    run = Run.open(tmp_path / "run")
    own = [read_shard(run.client_test_shard(client)) for client in run.info.clients]
    assert result.client_test_label_counts == {"0": [10, 5, 0], "1": [0, 5, 0]}
    for shard, counts in zip(own, result.client_test_label_counts.values(), strict=True):
        assert np.bincount(shard.y, minlength=3).tolist() == counts
        assert np.array_equal(shard.x[:, 1, 0, 0], shard.y)
    seen = np.concatenate([shard.x[:, 0, 0, 0] for shard in own])
    assert sorted(seen.tolist()) == list(range(100, 120))  # of the cats, nobody's
    assert run.test_shard.exists() == (split == "both")
    assert result.test_label_counts == ([10, 10, 10] if split == "both" else [])
    assert partition(tmp_path / "run", source, scheme, LINEAR).already_done
    run.client_test_shard("1").unlink()
    assert partition(tmp_path / "run", source, scheme, LINEAR) == result


def test_a_client_that_no_test_example_is_left_for_is_named(tmp_path):
    said = Lines()
    source = DataSource(limit=120, test_split="client")  # of 120 and 20
    scheme = Scheme("quantity", sizes=(110, 5, 5))
    result = partition(tmp_path / "run", source, scheme, LINEAR, progress=said)
    untested = {"0", "1", "2"} - set(result.client_test_label_counts)
    assert untested
    assert f"no test example for client {', '.join(sorted(untested))}" in said.lines
    assert sum(map(sum, result.client_test_label_counts.values())) == 20
    for client in untested:
        assert not Run.open(tmp_path / "run").client_test_shard(client).exists()


def test_what_is_done_to_a_clients_pictures_is_done_to_all_of_them(tmp_path):
    """One client, turned by a half: its training, held-out and test pictures, but nobody else's."""
    source = replace(SMALL, test_split="both", val_fraction=0.2)
    turned, plain = (
        Run.open(partition(tmp_path / scheme.name, source, scheme, LINEAR).run)
        for scheme in (Scheme("feature-rotate", 1, angles=(180.0,)), Scheme("iid", 1))
    )
    for path in (Run.client_shard, Run.validation_shard, Run.client_test_shard):
        found, expected = (read_shard(path(run, "0")) for run in (turned, plain))
        assert np.array_equal(found.x, np.rot90(expected.x, 2, axes=(2, 3)))
        assert np.array_equal(found.y, expected.y)
    assert np.array_equal(read_shard(turned.test_shard).x, read_shard(plain.test_shard).x)


def test_what_nobody_gets_is_said(tmp_path):
    """Of 120 examples, 12 of each class: five classes are in no list, and 40 are in no size."""
    said = Lines()
    lists = (("0", "1"), ("2", "3", "4"))
    source = DataSource(limit=120)
    partition(tmp_path / "lists", source, Scheme("labels", labels=lists), LINEAR, progress=said)
    assert said.lines == [
        "no client gets: plus, cross, triangle, bars, crescent (the test set keeps them)"
    ]
    said.lines.clear()
    sizes = Scheme("quantity", sizes=(50, 30))
    partition(tmp_path / "sizes", source, sizes, LINEAR, progress=said)
    assert said.lines == ["no client gets 40 of 120 training examples"]


# groups


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """The class and the group of each picture are in its second and third colour."""
    for number, group in enumerate(("north", "south", "east")):
        for label, name in enumerate(("ill", "well")):
            directory = tmp_path / "hospitals" / group / name
            directory.mkdir(parents=True)
            for one in range(10 * (number + 1)):
                Image.new("RGB", (8, 8), (one, label, number)).save(directory / f"{one}.png")
    return tmp_path / "hospitals"


@pytest.mark.parametrize("clients", [None, 2])
def test_the_clients_of_a_natural_cut_hold_whole_groups(tmp_path, hospitals, clients):
    source = DataSource(
        f"imagefolder:{hospitals}", options={"group": "folder"}, test_split="client"
    )
    result = partition(tmp_path / "run", source, Scheme("natural", clients), LINEAR)
    order = ["north", "south", "east"]
    expected = (
        [["east"], ["north"], ["south"]] if clients is None else [["east"], ["north", "south"]]
    )
    assert sorted(result.groups.values()) == sorted(expected)
    run = Run.open(tmp_path / "run")
    assert list(run.info.clients) == list(result.groups)
    for client, names_ in result.groups.items():
        wanted = {order.index(name) for name in names_}
        for shard in (run.client_shard(client), run.client_test_shard(client)):
            assert set(read_shard(shard).x[:, 2, 0, 0].tolist()) == wanted
    values = json.loads(run.partition_file.read_text())
    assert values["groups"] == result.groups
    assert sum(map(sum, values["client_test_label_counts"].values())) == 24  # a fifth of 120


# again


def test_the_same_again_touches_nothing_and_decodes_nothing(tmp_path, folder, monkeypatch):
    source = DataSource(f"imagefolder:{folder}", image_size=8)
    first = partition(tmp_path / "run", source, Scheme(), LINEAR)
    before = contents(tmp_path / "run")
    monkeypatch.setattr(pictures, "load", lambda *_: pytest.fail("a picture was decoded"))
    again = partition(tmp_path / "run", source, Scheme(), LINEAR)
    assert contents(tmp_path / "run") == before
    assert again == replace(first, already_done=True)


def test_a_picture_changed_in_place_is_another_run(tmp_path, folder):
    source = DataSource(f"imagefolder:{folder}")
    partition(tmp_path / "run", source, Scheme(), LINEAR)
    path = folder / "train" / "ant" / "3.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConflictError, match=r"origin\.data"):
        partition(tmp_path / "run", source, Scheme(), LINEAR)


@pytest.mark.parametrize("name", ["client-1.safetensors", "test.safetensors", "partition.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"cut")])
def test_data_that_is_gone_is_written_again_and_the_rounds_stay(tmp_path, name, damage):
    root = tmp_path / "run"
    first = partition(root, SMALL, Scheme(), LINEAR)
    update = root / "rounds" / "0001" / "updates" / "0.safetensors"
    update.parent.mkdir(parents=True)
    update.write_text("an update")
    before = {file: data for file, (data, _) in contents(root).items()}
    damage(root / "data" / name)
    said = Lines()
    assert partition(root, SMALL, Scheme(), LINEAR, progress=said) == first
    assert {file: data for file, (data, _) in contents(root).items()} == before
    assert any(name in line for line in said.lines)
    assert partition(root, SMALL, Scheme(), LINEAR).already_done


class Lines(Silence):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("source", "scheme", "start", "word"),
    [
        (replace(SMALL, limit=70), Scheme(), LINEAR, "limit"),
        (replace(SMALL, val_fraction=0.1), Scheme(), LINEAR, "val_fraction"),
        (replace(SMALL, test_split="both"), Scheme(), LINEAR, "test_split"),
        (SMALL, Scheme("feature-noise"), LINEAR, "scheme"),
        (SMALL, Scheme("iid", 4), LINEAR, "clients"),
        (SMALL, Scheme("dirichlet"), LINEAR, "scheme"),
        (SMALL, Scheme("iid", 3), replace(LINEAR, normalize="imagenet"), "mean"),
        (SMALL, Scheme(), replace(LINEAR, seed=1), "seed"),
        (SMALL, Scheme(), replace(LINEAR, plan=Plan(TrainPlan(lr=0.5))), "lr"),
        (SMALL, Scheme(), replace(LINEAR, model=ModelInfo("cnn")), "model"),
    ],
)
def test_another_run_is_a_conflict_that_names_a_difference(tmp_path, source, scheme, start, word):
    partition(tmp_path / "run", SMALL, Scheme(), LINEAR)
    before = contents(tmp_path / "run")
    with pytest.raises(ConflictError, match=word) as caught:
        partition(tmp_path / "run", source, scheme, start)
    assert "--force" in str(caught.value.hint)
    assert contents(tmp_path / "run") == before


def test_force_replaces_the_old_runs_files_and_nothing_else(tmp_path):
    root = tmp_path / "run"
    partition(root, SMALL, Scheme("iid", 5), LINEAR)
    (root / "rounds" / "0001" / "updates").mkdir(parents=True)
    (root / "rounds" / "0001" / "updates" / "0.safetensors").write_text("an update")
    kept = [root / "notes.txt", root / "data" / "mine.csv", root / "rounds" / "plot.png"]
    for path in kept:
        path.write_text("mine")
    partition(root, SMALL, Scheme("iid", 2), LINEAR, force=True)
    fresh = partition(tmp_path / "fresh", SMALL, Scheme("iid", 2), LINEAR)
    assert {path.read_text() for path in kept} == {"mine"}
    for path in kept:
        path.unlink()
    assert {name: data for name, (data, _) in contents(root).items()} == {
        name: data for name, (data, _) in contents(fresh.run).items()
    }


@pytest.mark.parametrize("force", [False, True])
def test_a_refused_replacement_leaves_the_old_run_whole(tmp_path, force):
    partition(tmp_path / "run", SMALL, Scheme(), LINEAR)
    before = contents(tmp_path / "run")
    with pytest.raises(UsageError, match="--model"):
        partition(tmp_path / "new", SMALL, Scheme(), Start(ModelInfo("no-such")))
    with pytest.raises((UsageError, ConflictError)):
        partition(tmp_path / "run", SMALL, Scheme(), Start(ModelInfo("no-such")), force=force)
    assert contents(tmp_path / "run") == before
    assert not (tmp_path / "new").exists()


def test_a_replacement_that_cannot_be_decoded_leaves_the_old_run_whole(tmp_path, folder):
    source = DataSource(f"imagefolder:{folder}")
    partition(tmp_path / "run", source, Scheme(), LINEAR)
    before = contents(tmp_path / "run")
    (folder / "test" / "cat" / "9.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"9\.png"):
        partition(tmp_path / "run", source, Scheme(), LINEAR, force=True)
    assert contents(tmp_path / "run") == before
    assert names(tmp_path / "run") == ["data", "rounds", "run.json"]


def test_a_full_disk_leaves_the_old_run_whole(tmp_path, monkeypatch):
    partition(tmp_path / "run", SMALL, Scheme(), LINEAR)
    before = contents(tmp_path / "run")
    calls = iter(range(4))

    def full(*_: object) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)  # the disk is full after four files
    with pytest.raises(StorageError, match="No space left"):
        partition(tmp_path / "run", SMALL, Scheme("iid", 9), LINEAR, force=True)
    assert contents(tmp_path / "run") == before
    assert names(tmp_path / "run") == ["data", "rounds", "run.json"]


def test_what_a_killed_replacement_left_behind_is_removed(tmp_path):
    root = tmp_path / "run"
    partition(root, SMALL, Scheme(), LINEAR)
    before = contents(root)
    killed = python(KILLED, root)
    assert killed.status == -signal.SIGKILL
    assert any(name.startswith(".new.") for name in names(root))
    assert {name: contents(root)[name] for name in before} == before
    partition(root, SMALL, Scheme("iid", 2), LINEAR, force=True)
    assert names(root) == ["data", "rounds", "run.json"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fedcli.storage.atomic import temporary_directory

with temporary_directory(Path(sys.argv[1]), "new") as aside:
    (aside / "data").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_partition_that_was_stopped_half_way_is_finished_by_another(tmp_path, monkeypatch):
    root = tmp_path / "run"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(partition_module, "write_round_zero", stop)
    with pytest.raises(KeyboardInterrupt):
        partition(root, SMALL, Scheme("iid", 5), LINEAR)
    monkeypatch.undo()
    assert not (root / "run.json").exists()
    with pytest.raises(RunFormatError):
        Run.open(root)
    partition(root, SMALL, Scheme("iid", 2), LINEAR)
    fresh = partition(tmp_path / "fresh", SMALL, Scheme("iid", 2), LINEAR)
    assert list(contents(root)) == list(contents(fresh.run))


def test_trained_rounds_without_a_run_json_are_not_thrown_away(tmp_path):
    update = tmp_path / "rounds" / "0001" / "updates" / "0.safetensors"
    update.parent.mkdir(parents=True)
    update.write_text("an update")
    with pytest.raises(ConflictError, match="rounds"):
        partition(tmp_path, SMALL, Scheme(), LINEAR)
    assert update.exists()


def test_an_undecodable_picture_leaves_no_run_behind(tmp_path, folder):
    (folder / "train" / "bee" / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png"):
        partition(tmp_path / "run", DataSource(f"imagefolder:{folder}"), Scheme(), LINEAR)
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list((tmp_path / "run").iterdir())


# options


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataSource(val_fraction=1.0),
        lambda: DataSource(limit=0),
        lambda: DataSource(test_split="nobody"),
        lambda: Start(normalize="none"),
        lambda: Start(seed=-1),
        lambda: Start(pretrained=True, init_from=Path("x")),
        lambda: partition(Path("nowhere"), DataSource(test_fraction=0.0)),
        lambda: partition(Path("nowhere"), DataSource(image_size=0)),
        lambda: partition(Path("nowhere"), DataSource(limit=10), Scheme("iid", 11)),
        lambda: partition(Path("nowhere"), DataSource(limit=9, val_fraction=0.1), Scheme("iid", 9)),
    ],
)
def test_values_that_cannot_be_used_are_refused(make):
    with pytest.raises(UsageError, match="--"):
        make()


def test_missing_weights_are_not_ready(tmp_path):
    start = replace(LINEAR, init_from=tmp_path / "nowhere.safetensors")
    with pytest.raises(NotReadyError, match="nowhere"):
        partition(tmp_path / "run", SMALL, Scheme(), start)


# the table


# the user's session
