"""Files that a client leaves out: named to the client, and counted for the others."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.runs import fedcli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / "scans" / ("ant", "bee")[number % 2] / f"patient{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), number + 9).save(path)
    bad = tmp_path / "scans" / "ant" / "patient0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    words = ("--classes", "ant,bee", "--image-size", 8, "--model", "linear", "--epochs", 1)
    fedcli("init", *words, cwd=tmp_path)
    return tmp_path


TRAIN = ("train-client", "--id", "mercy", "--data", "scans")


@pytest.mark.parametrize("stream", [(), ("--stream", "--num-workers", 0)])
def test_only_the_number_of_files_left_out_is_sent(folder, stream):
    refused = fedcli(*TRAIN, *stream, cwd=folder)
    assert refused.status == 4
    assert "patient0.png: is a picture that cannot be decoded" in refused.err
    assert "--skip-bad" in refused.err
    done = fedcli(*TRAIN, "--skip-bad", *stream, cwd=folder)
    assert "left out: scans/ant/patient0.png" in done.err
    assert "1 files left out; only their number is sent" in done.out
    sent = list((folder / "fedrun" / "rounds" / "0001" / "updates").iterdir())
    assert all(b"patient" not in path.read_bytes() for path in sent)
    (telemetry,) = (path for path in sent if path.suffix == ".json")
    assert json.loads(telemetry.read_text())["skipped"] == 1
    assert json.loads(telemetry.read_text())["num_examples"] == 3


def test_evaluate_leaves_them_out_too(folder):
    assert "patient0" in fedcli(*EVALUATE, cwd=folder).err
    done = fedcli(*EVALUATE, "--skip-bad", "--json", cwd=folder)
    assert done.json["evaluations"][0]["examples"] == 3
    assert "left out: scans/ant/patient0.png" in done.err


EVALUATE = ("evaluate", "--round", 0, "--data", "scans")


@pytest.mark.parametrize("words", [("train-client", "--id", "mercy"), ("evaluate", "--round", 0)])
def test_how_data_is_read_needs_data(folder, words):
    assert "--skip-bad: says how --data is read" in fedcli(*words, "--skip-bad", cwd=folder).err


def test_a_partition_lists_the_files_left_out(folder):
    for name in ("ant/patient5.png", "bee/patient6.png"):
        Image.effect_noise((8, 8), 30).save(folder / "scans" / name)
    words = ("partition", "--run", "r", "--dataset", "imagefolder:scans", "--model", "linear")
    refused = fedcli(*words, "--clients", 2, cwd=folder)
    assert (refused.status, refused.err.count("patient0.png")) == (4, 1)
    done = fedcli(*words, "--clients", 2, "--skip-bad", "--json", cwd=folder)
    assert done.json["skipped"] == ["scans/ant/patient0.png"]
    written = json.loads((folder / "r" / "data" / "partition.json").read_text())
    assert written["skipped"] == ["scans/ant/patient0.png"]
