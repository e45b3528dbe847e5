"""What strangers put into a shared directory is refused in one line that names it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import enormous, fuzzing
from support.pages import TESTS
from support.runs import ROLES, deliver, fedcli, run_info, tensors

from fedcli.cli import execute
from fedcli.datasets.shards import read_shard
from fedcli.errors import BadInputError, FedcliError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.report import report
from fedcli.steps.status import status
from fedcli.storage.atomic import read_json, write_json
from fedcli.storage.untrusted import InputFile

pytestmark = pytest.mark.usefixtures("unsynced")

# --- memory and time ---------------------------------------------------------------------------

TAKEN = {
    "many-tensors.safetensors",
    "many-updates.safetensors",
    "many-roles.safetensors",
    "deep-metadata.safetensors",
}


def test_no_file_takes_more_memory_than_a_small_machine_has(tmp_path: Path) -> None:
    paths = enormous.write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "support.enormous", *map(str, paths)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["name"] for result in results] == list(enormous.FILES)
    for result in results:
        assert (result["said"] == "taken") == (result["name"] in TAKEN), result
        assert result["said"] == "taken" or result["name"] in result["said"]
        assert result["said"].isprintable()
        # a manifest may have an entry for each of 100,000 clients
        most = 500_000_000 if result["name"].endswith(".json") else 200_000_000
        assert result["memory"] < most, result


def test_a_file_with_a_hole_of_a_terabyte(tmp_path: Path) -> None:
    values = {"x": np.zeros((3, 3, 8, 8), np.uint8), "y": np.zeros(3, np.int64)}
    save(tmp_path / "a", values, Metadata(Kind.SHARD, "f"))
    header = {"x": {"dtype": "U8", "shape": [2**40], "data_offsets": [8 * 2**40, 9 * 2**40]}}
    header |= {"y": {"dtype": "I64", "shape": [2**40], "data_offsets": [0, 8 * 2**40]}}
    own = {"fedcli": Metadata(Kind.SHARD, "f").encode()}
    text = json.dumps({"__metadata__": own, **header}).encode()
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        try:
            file.truncate(8 + len(text) + 9 * 2**40)
        except OSError:
            pytest.skip("no file system for so large a file")
    with pytest.raises(FedcliError, match="hole"):
        read_shard(path, Run.open(fuzzing.CORPUS))


# --- what can be shown -------------------------------------------------------------------------


ESCAPES = "\x1b[2J\x9b31m\u202e\x7f"


def test_names_of_strangers_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    for command in ("status", "aggregate", "report"):
        for words in ([], ["--json"]):
            done = fedcli(command, *words, "--run", run.root, cwd=tmp_path)
            for line in (done.out + done.err).splitlines():
                assert line.isprintable(), (command, words, line)


def hostile_run(tmp_path: Path) -> Run:
    """A run with escapes in all names that it may have."""
    info = run_info()
    dataset = {**vars(info.dataset), "name": f"d{ESCAPES}", "classes": (f"c{ESCAPES}", "b")}
    values = {**vars(info), "dataset": type(info.dataset)(**dataset), "origin": {ESCAPES: ESCAPES}}
    run = Run.create(tmp_path / "run", type(info)(**values))
    base = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES)
    save(run.round(0).global_model, tensors(0), base)
    for client in ("0", "1"):
        deliver(run, client, tensors(1), training={"device": ESCAPES})
    deliver(run, "2", {**tensors(1), f"t{ESCAPES}": np.zeros(1, np.float32)})
    telemetry = {"format": 1, "sha256": digest(run.round(1).update("0")), "device": ESCAPES}
    write_json(run.round(1).telemetry("0"), telemetry)
    (run.round(1).updates / f"{ESCAPES}.safetensors").write_bytes(b"")
    (run.root / "rounds" / ESCAPES).mkdir()
    return run


# --- what is not a file -------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)  # the path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "pipe": fifo,
    "socket": listening,
    "link out": link("/etc/passwd"),
    "link to a device": link("/dev/zero"),
    "link to itself": link("0.safetensors"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "0.safetensors"
    make(path)
    for read in (Checkpoint, InputFile, read_json):
        with pytest.raises(BadInputError, match=r"0\.safetensors: (expected a file|is a symbolic)"):
            read(path)


def test_the_run_itself_and_its_folders_may_be_links(tmp_path: Path, tiny_run: Run) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    disk = tmp_path / "disk"
    tiny_run.root.rename(disk)
    (disk / "rounds").rename(tmp_path / "elsewhere")
    (disk / "rounds").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(disk)
    assert len(aggregate(Run.open(tmp_path / "link")).clients) == 3


PLACES = [
    "run.json",
    "rounds/0000/global.safetensors",
    "rounds/0001/updates/0.safetensors",
    "rounds/0001/updates/0.json",
    "rounds/0001/training/0.json",
    "rounds/0001/aggregate.json",
    "rounds/0001/evaluation.json",
    "rounds/0001/global.safetensors",
    "data/partition.json",
]


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("place", PLACES)
def test_steps_end_where_there_is_no_file(
    tiny_run: Run, place: str, make: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path = tiny_run.root / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True, parents=True)
    make(path)
    for command in ("status", "report", "aggregate"):
        done = execute([command, "--json", "--run", str(tiny_run.root)])
        result = json.loads(capfd.readouterr().out)
        assert done in (0, 1, 3, 4, 5)
        if done:
            assert result["error"]["kind"] != "internal", result
            assert done == 3 or str(tiny_run.root) in result["error"]["message"]


# --- files that change -------------------------------------------------------------------------


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(path.read_bytes())
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    data = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(data)
    other.rename(path)


@pytest.mark.parametrize("change", [grow, rewrite])
def test_a_file_that_is_changed_while_it_is_read(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    save(tmp_path / "a", tensors(1), Metadata(Kind.UPDATE, "f"))
    with Checkpoint(tmp_path / "a") as checkpoint:
        change(tmp_path / "a")
        for read in (checkpoint.tensors, checkpoint.digest):
            with pytest.raises(BadInputError, match="a: was changed or replaced while it was read"):
                read()


def test_an_update_that_grows_while_it_is_averaged_is_left_out(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path, real = tiny_run.round(1).update("1"), os.preadv

    def preadv(*arguments: Any) -> int:
        grow(path)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(BadInputError, match=r"updates/1\.safetensors"):
        aggregate(tiny_run)
    assert not tiny_run.round(1).global_model.exists()


@pytest.mark.parametrize("name", ["../../../../secret", "x" * 65, "a/b"])
def test_a_manifest_cannot_name_files_elsewhere(tiny_run: Run, name: str) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    aggregate(tiny_run)
    manifest = tiny_run.round(1).manifest
    values = json.loads(manifest.read_text())
    values["accepted"][0]["client"] = name
    write_json(manifest, values)
    (found,) = report([tiny_run]).runs
    left_out = "rounds/0001/aggregate.json is left out of this report: accepted[0].client: expected"
    assert found.notes[0].text.startswith(left_out)


def test_rounds_have_one_name_each(tiny_run: Run) -> None:
    for name in ("00000", "00001", "٠٠٠١", "0001 ", "1", "9" * 200, "-0001", "0001.safetensors"):
        (tiny_run.root / "rounds" / name).mkdir()
    assert [round_.number for round_ in tiny_run.rounds()] == [0]
    assert status(tiny_run).open_round == 1


def test_a_seed_that_no_file_can_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = fedcli("init", "--classes", "a,b", "--seed", 2**63, "--json", cwd=tmp_path)
    assert (done.status, done.json["error"]["kind"]) == (2, "usage")
    assert list(tmp_path.iterdir()) == []
