"""``check``: how data is read, what it holds, and what is likely wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.runs import fedcli, python

import fedcli as face
from fedcli import DataError, NotReadyError, UsageError, check


def noise(path: Path, seed: int, size=(8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Class folders in Training/ and Testing/ with nothing wrong."""
    root = tmp_path / "scans"
    seed = 0
    for part, count in (("Training", 12), ("Testing", 3)):
        for name in ("benign", "malignant"):
            for number in range(count):
                noise(root / part / name / f"{number}.png", seed)
                seed += 1
    return root


def test_a_sound_folder_is_described(scans):
    (scans / "@eaDir").mkdir()
    found = check(str(scans))
    assert found.usable
    assert found.classes == ("benign", "malignant")
    assert found.counts == {"train": [12, 12], "test": [3, 3]}
    assert found.understood[0] == "class folders in Training/ and Testing/"
    assert "Training/ is to train on, Testing/ to test on" in found.understood
    assert [(one.name, one.why) for one in found.left_out] == [
        ("@eaDir", "made by the system, not by you")
    ]
    assert (found.modes, found.bits, found.shape) == ({"RGB": 30}, {"8": 30}, (3, 8, 8))
    assert (found.width.least, found.width.greatest) == (8, 8)
    assert found.values == (0, 255)
    assert (found.bad, found.duplicates, found.likely_wrong) == ((), (), ())
    assert found.next == f"fedcli partition --dataset imagefolder:{scans}"


def copy(one: str, other: str):
    def change(root: Path) -> None:
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_bytes((root / one).read_bytes())

    return change


def reencoded(root: Path) -> None:
    with Image.open(root / "Training/benign/0.png") as image:
        image.save(root / "Testing/benign/copy.bmp")


def blank(root: Path) -> None:
    Image.new("RGB", (8, 8), (7, 7, 7)).save(root / "Training/benign/blank.png")


def rare(root: Path) -> None:
    noise(root / "Training/rare/0.png", 99)


def many(root: Path) -> None:
    for number in range(120):
        noise(root / f"Training/benign/more{number}.png", 1000 + number)


def deep(root: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(
        root / "Training/benign/deep.png"
    )


WRONG = {
    "in both parts": (copy("Training/benign/0.png", "Testing/benign/x.png"), "in both parts"),
    "in both parts, in another format": (reencoded, "in both parts"),
    "with two labels": (copy("Training/benign/0.png", "Training/malignant/x.png"), "another label"),
    "twice": (copy("Training/benign/0.png", "Training/benign/x.png"), "copies of other examples"),
    "blank": (blank, "1 examples have one value everywhere: Training/benign/blank.png"),
    "few": (rare, "fewer than 10 examples to train on: rare (1)"),
    "not tested": (rare, "no test examples of: rare"),
    "uneven": (many, "largest class has 132 examples, the smallest 12"),
    "alike": (
        copy("Training/benign/0.png", "Training/Benign /x.png"),
        "the classes 'Benign ', 'benign' may be one",
    ),
    "deep": (deep, "more than 8 bits, with values up to 63000"),
    "grey": (lambda root: noise(root / "Training/benign/g.png", 5000, mode="L"), "are grey"),
    "long": (
        lambda root: noise(root / "Training/benign/l.png", 5000, (80, 8)),
        "lose most of their longer side",
    ),
    "large": (
        lambda root: noise(root / "Training/benign/l.png", 5000, (80, 80)),
        "widths differ from 8 to 80",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_likely_wrong_is_said_and_the_data_is_usable(scans, name):
    change, words = WRONG[name]
    change(scans)
    found = check(str(scans))
    assert found.usable
    assert any(words in line for line in found.likely_wrong), found.likely_wrong


def test_duplicates_are_listed_with_their_places(scans):
    copy("Training/benign/0.png", "Testing/malignant/x.png")(scans)
    (one,) = check(str(scans)).duplicates
    assert one.names == ("Training/benign/0.png", "Testing/malignant/x.png")
    assert one.across
    assert one.conflicting


def test_every_bad_file_is_named_and_the_exit_status_is_4(scans):
    for number in range(12):
        (scans / f"Training/benign/bad{number}.png").write_bytes(b"no picture")
    shown = fedcli("check", "--data", scans, cwd=scans.parent)
    assert shown.status == 4
    assert all(f"bad{number}.png: " in shown.out for number in range(12))
    assert "12 of 42 examples cannot be decoded" in shown.err
    assert f"next: fedcli check --data {scans} --skip-bad" in shown.out
    printed = fedcli("check", "--data", scans, "--json", cwd=scans.parent)
    assert (printed.status, len(printed.json["bad"])) == (4, 12)
    assert printed.json["error"]["kind"] == "bad-data"
    skipped = fedcli("check", "--data", scans, "--skip-bad", cwd=scans.parent)
    assert skipped.status == 0
    assert "--skip-bad" in skipped.out.splitlines()[-1]


def test_what_check_accepts_is_what_partition_takes(scans):
    shown = fedcli("check", "--data", "scans", "--json", cwd=scans.parent)
    words = shown.json["next"].split()[1:]
    made = fedcli(*words, "--model", "linear", "--clients", 2, "--json", cwd=scans.parent)
    assert made.status == 0
    assert made.json["classes"] == shown.json["classes"]
    assert made.json["shape"] == shown.json["shape"]
    assert made.json["test_label_counts"] == shown.json["counts"]["test"]


def test_a_client_checks_its_data_for_a_run(scans):
    cwd = scans.parent
    fedcli(
        "init", "--classes", "malignant,benign,rare", "--image-size", 8, "--model", "linear",
        "--epochs", 1, cwd=cwd,
    )  # fmt: skip
    shown = fedcli("check", "--data", "scans", "--run", "fedrun", "--json", cwd=cwd)
    assert shown.json["classes"] == ["malignant", "benign", "rare"]
    assert shown.json["counts"] == {"train": [12, 12, 0], "test": [3, 3, 0]}
    assert shown.json["next"] == "fedcli train-client --id NAME --data scans"
    words = shown.json["next"].replace("NAME", "mercy").split()[1:]
    assert fedcli(*words, cwd=cwd).status == 0
    noise(scans / "Training/wasp/1.png", 1)
    refused = fedcli("check", "--data", "scans", "--run", "fedrun", cwd=cwd)
    assert refused.status == 4
    assert "no class 'wasp'; the classes are: malignant, benign, rare" in refused.err


@pytest.mark.parametrize("first", [0, 1])
def test_arrays_are_checked_too(tmp_path, first):
    x = np.random.default_rng(0).integers(0, 256, (40, 5, 5), np.uint8)
    x[7] = x[9]
    y = np.arange(40) % 2 + first
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[7:8], y_test=y[7:8])
    found = check(str(tmp_path / "a.npz"))
    assert found.counts == {"train": [20, 20], "test": [0, 1]}
    assert found.duplicates[0].names == ("train[7]", "train[9]", "test[0]")
    assert any("counted from 1" in line for line in found.understood) == (first == 1)
    assert found.next == f"fedcli partition --dataset npz:{tmp_path / 'a.npz'}"


def test_a_value_that_is_not_finite_is_not_usable(tmp_path):
    x = np.ones((20, 4), np.float32)
    x[3, 2] = np.nan
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2, x_test=x, y_test=[0, 1] * 10)
    found = check(str(tmp_path / "a.npz"))
    assert not found.usable
    assert any("example 3" in one.reason for one in found.bad)


def test_a_data_set_by_name_is_checked():
    found = check("synthetic")
    assert found.usable
    assert found.counts == {"train": [600] * 10, "test": [100] * 10}


def test_labels_of_a_table_are_checked(tmp_path):
    for number in range(24):
        noise(tmp_path / f"{number}.png", number)
    rows = "".join(f"{number},{('nv', 'mel')[number % 2]}\n" for number in range(24))
    (tmp_path / "labels.csv").write_text(f"image_id,dx\n{rows}")
    found = check(str(tmp_path), reading={"labels_csv": Path("labels.csv")})
    assert (found.classes, found.counts) == (("mel", "nv"), {"all": [12, 12]})
    assert found.next.endswith(" --labels-csv labels.csv")


def test_what_cannot_be_understood_is_an_error(tmp_path):
    with pytest.raises(NotReadyError, match="no such file or folder, and no data set"):
        check(str(tmp_path / "nowhere"))
    noise(tmp_path / "images" / "1.png", 0)
    with pytest.raises(DataError, match="at least two"):
        check(str(tmp_path))
    with pytest.raises(UsageError, match="--skip-bad True: it is for imagefolder"):
        check("synthetic", reading={"skip_bad": True})


def test_check_needs_no_torch():
    assert "CheckResult" in dir(face)
    code = "import sys, fedcli; fedcli.check('synthetic'); print('torch' in sys.modules)"
    assert python(code).out == "False\n"
