"""Paths and names that are not UTF-8, which a disk allows: used, or refused in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import fedcli

RUN, DATA = os.fsdecode(b"caf\xe9"), os.fsdecode(b"dat\xe9")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number in range(8):
        path = tmp_path / DATA / ("ant", "bee")[number % 2] / os.fsdecode(b"%d\xe9.png" % number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 9 + number).save(path)
    return tmp_path


def test_a_run_and_data_of_such_names_are_used_by_every_command(place):
    words = ("--run", RUN)
    for line in (
        ("init", "--classes", "ant,bee", "--image-size", 8, "--model", "linear", "--epochs", 1),
        ("train-client", "--id", "mercy", "--data", DATA),
        ("aggregate",),
        ("evaluate", "--data", DATA),
        ("check", "--data", DATA),
        ("status",),
        ("report", "--html", os.fsdecode(b"r\xe9.html")),
        ("verify",),
    ):
        for json in ((), ("--json",)) if line != ("aggregate",) else ((),):
            done = fedcli(*line, *words, *json, cwd=place)
            assert done.status == 0, (line, done.err)
    made = fedcli(
        "partition", "--dataset", f"imagefolder:{DATA}", "--run", "r", "--model", "linear",
        "--clients", 2, "--skip-bad", cwd=place,
    )  # fmt: skip
    assert made.status == 0, made.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("init", "--classes", f"{RUN},b"), 2),
        (("init", "--classes", "a,b", "--clients", RUN), 2),
        (("partition", "--dataset", RUN), 2),
        (("partition", "--dataset", f"npz:{RUN}.npz"), 3),
        (("check", "--data", RUN), 3),
        (("partition", "--dataset", "npz:names.npz"), 4),
        (("partition", "--dataset", "npz:groups.npz"), 4),
        (("partition", "--dataset", "npz:labels.npz"), 4),
        (("partition", "--dataset", f"imagefolder:{DATA}", "--group", RUN), 3),
        (("partition", "--labels", f"{RUN},disc"), 2),
    ],
)
def test_names_that_a_run_would_have_to_write_are_refused(place, words, status):
    arrays = {"x": np.zeros((8, 4, 4), np.uint8), "y": np.arange(8) % 2}
    np.savez(place / "names.npz", **arrays, class_names=np.array(["a", "\udce9"]))
    np.savez(place / "groups.npz", **arrays, group=np.array(["a", "\udce9"] * 4))
    np.savez(place / "labels.npz", x=arrays["x"], y=np.array(["a", "\udce9"] * 4))
    done = fedcli(*words, cwd=place)
    assert (done.status, done.err.count("error: ")) == (status, 1), done.err
    assert "mistake in fedcli" not in done.err
    assert not (place / "fedrun").exists()
