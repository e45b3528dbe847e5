"""The file that ``wandb sync`` uploads holds what the run measured, once."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.sample_runs import score, write_evaluation

from fedcli.errors import StorageError
from fedcli.run import Run
from fedcli.steps.report import report

pytest.importorskip("wandb", reason="wandb is not installed")
Curves = dict[str, dict[int, float]]
_FULL, _LAST = 1, 4
_BLOCK, _START, _HEADER = 32768, 7, 7


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, text = file.read_bytes(), _START, b""
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        text += data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (_FULL, _LAST):
            yield Record.FromString(text)
            text = b""


def read(directory: Path) -> tuple[dict[str, Any], Curves]:
    """The configuration and the values of the one run in a directory."""
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    found = [*records(file)]
    runs = [record.run for record in found if record.HasField("run")]
    config = {item.key: json.loads(item.value_json) for item in runs[-1].config.update}
    curves: Curves = {}
    for record in found:
        values = {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for name, value in values.items():
            curves.setdefault(name, {})[int(values["_step"])] = value
    return {**config, "name": runs[-1].display_name, "id": runs[-1].run_id}, curves


def test_values_and_settings_are_those_of_the_run(
    run: Run, tmp_path: Path, curves: Callable[[Run], Curves]
) -> None:
    report([run], labels=["mine"], wandb_offline=tmp_path / "w")
    config, found = read(tmp_path / "w")
    expected = curves(run)
    assert {name: found.get(name) for name in expected} == expected
    assert found["seconds"] == {0: 0, 1: 3.75, 2: 8.5, 3: 14.25}
    made = {"algorithm": "fedavg", "alpha": 0.5, "seed": 0, "fedcli_run": run.id}
    assert {**made, "name": "mine"}.items() <= config.items()


def test_a_repetition_changes_nothing_and_a_run_that_went_on_is_replaced(
    run: Run, tmp_path: Path
) -> None:
    report([run], wandb_offline=tmp_path / "w")
    (first,) = tmp_path.glob("w/wandb/offline-run-*")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    key = read(tmp_path / "w")[0]["id"]
    report([run], wandb_offline=tmp_path / "w")
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    write_evaluation(run.round(3), [score(run, 0.75)])
    report([run], wandb_offline=tmp_path / "w")
    config, found = read(tmp_path / "w")
    assert (config["id"], found["test/accuracy"][3]) == (key, 0.75)


def test_a_folder_that_is_not_complete_is_replaced(run: Run, tmp_path: Path) -> None:
    report([run], wandb_offline=tmp_path / "w")
    (mark,) = tmp_path.glob("w/wandb/offline-run-*/fedcli.json")
    mark.unlink()
    report([run], wandb_offline=tmp_path / "w")
    assert read(tmp_path / "w")[1]["test/accuracy"][3] == 0.5


def test_wandb_sync_finds_the_run(run: Run, tmp_path: Path) -> None:
    report([run], wandb_offline=tmp_path / "w")
    (folder,) = tmp_path.glob("w/wandb/offline-run-*")
    process = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Would sync 1 run(s)" in process.stderr + process.stdout


def test_a_directory_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file")
    with pytest.raises(StorageError) as caught:
        report([run], wandb_offline=tmp_path / "w")
    assert caught.value.path == tmp_path / "w"


def test_nothing_is_written_about_the_machine(run: Run, tmp_path: Path) -> None:
    report([run], wandb_offline=tmp_path / "w")
    (file,) = tmp_path.glob("w/wandb/offline-run-*/*.wandb")
    runs = [record.run for record in records(file) if record.HasField("run")]
    assert {(run.host, run.git.remote_url, run.git.commit) for run in runs} == {("", "", "")}
    for private in (str(Path.cwd()), str(tmp_path)):
        assert private.encode() not in file.read_bytes(), private
    names = {path.name for path in file.parent.joinpath("files").rglob("*")}
    assert not names & {"requirements.txt", "wandb-metadata.json", "diff.patch"}
