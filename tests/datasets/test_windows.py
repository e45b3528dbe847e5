"""Pixels of more than 8 bits: by the window of the run, or refused, and never scaled alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from fedcli.datasets import DataOptions, load_dataset, pictures
from fedcli.datasets.own import load_examples
from fedcli.datasets.windows import advice, parse_window, windowed
from fedcli.errors import DataError, UsageError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo

TWELVE = (0.0, 4095.0)


@pytest.mark.parametrize(
    ("dtype", "window", "values", "expected"),
    [
        ("u1", (50, 100), [0, 50, 75, 100, 255], [0, 0, 128, 255, 255]),
        ("<u2", (0, 1023), [0, 1, 512, 1023, 65535], [0, 0, 128, 255, 255]),
        (">u2", (0, 4095), [0, 300, 480, 4095, 5000], [0, 19, 30, 255, 255]),
        ("<i2", (-1000, 400), [-2000, -1000, -300, 400, 3000], [0, 0, 128, 255, 255]),
        (
            "<i4",
            (-100000, 100000),
            [-(2**31), -100000, 0, 100000, 2**31 - 1],
            [0, 0, 128, 255, 255],
        ),
        ("<f4", (0, 1), [-np.inf, 0, 0.5, 1, np.inf], [0, 0, 128, 255, 255]),
        ("<f8", (0.25, 0.75), [0, 0.25, 0.5, 0.75, 1], [0, 0, 128, 255, 255]),
    ],
)
def test_a_window_is_a_straight_line_between_its_ends(dtype, window, values, expected):
    assert windowed(np.array(values, dtype), window).tolist() == expected


def test_a_value_that_is_no_number_has_no_place_in_a_window():
    with pytest.raises(ValueError, match="not a number"):
        windowed(np.array([0.5, np.nan]), (0, 1))


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "2,1", "1,1", "a,b", "nan,1", "0,inf"])
def test_a_window_that_is_none_is_a_usage_error(text):
    with pytest.raises(UsageError, match="expected two numbers, the lower first"):
        parse_window(text)


@pytest.mark.parametrize(
    ("low", "high", "typed"),
    [(0, 480, "0,1023"), (300, 4000, "0,4095"), (-1024, 3071, "-1024,3071"), (0, 0.5, "0,0.5")],
)
def test_the_advice_is_a_window_to_type(low, high, typed):
    assert advice(low, high).endswith(f"--window {typed}")
    assert parse_window(typed) is not None


def deep_png(path: Path, values: list[int]) -> Path:
    Image.fromarray(np.array([values], np.uint16)).save(path)
    return path


def test_sixteen_bits_that_hold_twelve_are_refused_with_the_range_and_what_to_type(tmp_path):
    path = deep_png(tmp_path / "a.png", [300, 480])
    with pytest.raises(DataError, match="between 300 and 480, which would become 1 to 1 of 255"):
        pictures.load(path, (1, 1, 2))
    with pytest.raises(DataError) as caught:
        pictures.load(path, (1, 1, 2))
    assert "--window 0,1023" in (caught.value.hint or "")
    assert pictures.load(path, (1, 1, 2), TWELVE).tolist() == [[[19, 30]]]


def test_sixteen_bits_that_are_used_keep_their_upper_eight(tmp_path):
    path = deep_png(tmp_path / "a.png", [256, 65535])
    assert pictures.load(path, (1, 1, 2)).tolist() == [[[1, 255]]]


@pytest.mark.parametrize(
    ("mode", "values", "said"),
    [
        ("F", [-0.5, 2.5], "floating-point numbers from -0.5 to 2.5"),
        (
            "I",
            [-1000, 400],
            "between -1000 and 400, which would become 0 or 255 if they are cut off",
        ),
        ("I", [0, 100_000], "between 0 and 100000"),
    ],
)
def test_signed_long_and_floating_point_tiffs_need_a_window(tmp_path, mode, values, said):
    path = tmp_path / "a.tif"
    pixels = np.array([values], np.float32 if mode == "F" else np.int32)
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=said):
        pictures.load(path, (3, 1, 2))
    window = (float(values[0]), float(values[1]))
    assert pictures.load(path, (3, 1, 2), window).tolist() == [[[0, 255]]] * 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_window_holds_for_eight_bits_too(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.new(mode, (2, 1), 100 if mode == "L" else (100, 150, 50)).save(path)
    expected = [[[128, 128]]] * 3 if mode == "L" else [[[128, 128]], [[255, 255]], [[0, 0]]]
    assert pictures.load(path, (3, 1, 2), (50, 149.6)).tolist() == expected


@pytest.mark.parametrize("window", [None, TWELVE])
def test_colours_of_sixteen_bits_that_hold_twelve_are_refused(tmp_path, window):
    path = tmp_path / "a.png"
    if window is None:
        with pytest.raises(DataError, match="16-bit colours would become 0 to 1 of 255"):
            load_png16(path, window)
    else:
        with pytest.raises(DataError, match="16-bit colours, to which --window cannot be applied"):
            load_png16(path, window)


def load_png16(path: Path, window: tuple[float, ...] | None) -> None:
    """Load the same colours as a PNG of 16 bits for each, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + np.array([300] * 6, ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    pictures.load(path, (3, 1, 2), window)


def save(path: Path, dtype: str, low: float, high: float) -> np.ndarray:
    values = np.linspace(low, high, 6 * 4 * 5).reshape(6, 4, 5).astype(dtype)
    np.savez(path, x=values, y=np.arange(6) % 2)
    return values


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("u2", 0, 4095), ("i2", -1000, 400), ("i4", -9, 9), ("f4", -2, 2)]
)
def test_arrays_of_any_numbers_become_pictures_by_the_window(tmp_path, dtype, low, high):
    path = tmp_path / "a.npz"
    values = save(path, dtype, low, high)
    data = load_dataset(f"npz:{path}", DataOptions(window=f"{low},{high}"))
    assert (data.shape, data.dtype) == ((1, 4, 5), np.uint8)
    expected = windowed(values, (low, high))
    found = [*data.train.read(np.arange(5)), *data.test.read(np.arange(1))]
    assert {one.tobytes() for one in found} == {one.tobytes() for one in expected}
    info = DatasetInfo("own", ("0", "1"), (1, 4, 5), window=(low, high))
    assert np.array_equal(load_examples(str(path), info, "train", Silence()).x[:, 0], expected)


def test_whole_numbers_of_more_than_8_bits_need_a_window(tmp_path):
    save(tmp_path / "a.npz", "i2", -1000, 400)
    with pytest.raises(DataError, match="with values from -1000 to 400") as caught:
        load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions())
    assert "--window -1000,400" in (caught.value.hint or "")


class Spoken(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, line: str) -> None:
        self.text += line


@pytest.mark.parametrize(("high", "warned"), [(1, False), (255, True)])
def test_floating_point_pictures_outside_of_0_to_1_are_used_with_a_warning(tmp_path, high, warned):
    values = np.linspace(0, high, 6 * 64 * 3).reshape(6, 8, 8, 3)
    np.savez(tmp_path / "a.npz", x=values, y=np.arange(6) % 2)
    said = Spoken()
    load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions(progress=said))
    assert ("has values from 0 to 255" in said.text and "--window 0,255" in said.text) is warned


def test_a_generated_data_set_has_no_use_for_a_window():
    with pytest.raises(UsageError, match="--window: synthetic"):
        load_dataset("synthetic", DataOptions(window="0,1"))


def hospital(root: Path) -> Path:
    """A folder of 16-bit pictures that hold 12 bits: two classes, dark and bright."""
    for part in ("train", "test"):
        for label, level in (("a", 500), ("b", 3000)):
            (root / part / label).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((8, 8), level + number, np.uint16)
                Image.fromarray(pixels).save(root / part / label / f"{number}.png")
    return root


def test_the_window_of_a_run_is_stated_and_used_by_every_command(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hospital(tmp_path / "hospital")
    status, out, err = cli(
        "init", "--classes", "a,b", "--clients", "x", "--window", "0,4095", "--image-size", "8",
        "--channels", "1", "--model", "linear", "--epochs", "1",
    )  # fmt: skip
    assert (status, "window 0,4095: " in out) == (0, True), err
    for command in (
        ("train-client", "--id", "x", "--data", data),
        ("aggregate",),
        ("evaluate", "--data", data),
        ("export", "--output", "model.safetensors"),
    ):
        status, out, err = cli(*command)
        assert status == 0, err
    card = next(tmp_path.glob("model*.md")).read_text()
    assert "clip(v, 0, 4095)" in card
    assert "--window 0,4095" in card
    with safe_open(tmp_path / "model.safetensors", "np") as exported:
        assert exported.metadata()["fedcli_window"] == "0,4095"


def test_partition_writes_windowed_examples(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hospital(tmp_path / "hospital")
    words = ["partition", "--dataset", f"imagefolder:{data}", "--clients", "1", "--model", "linear"]
    status, _, err = cli(*words)
    assert status == 4
    assert "12 of 12 pictures" in err
    assert "--window 0,4095" in err
    status, out, err = cli(*words, "--window", "0,4095")
    assert (status, "window 0,4095: " in out) == (0, True), err
    from fedcli.datasets.shards import read_shard

    levels = np.unique(read_shard(tmp_path / "fedrun" / "data" / "client-0.safetensors").x)
    assert levels.tolist() == [31, 187]


def test_check_proposes_a_window_for_all_files(tmp_path, cli):
    data = hospital(tmp_path / "hospital")
    status, out, _ = cli("check", "--data", data)
    assert status == 4
    assert f"next: fedcli check --data {data} --window 0,4095\n" in out
    status, out, _ = cli("check", "--data", data, "--window", "0,4095")
    assert (status, "--window 0,4095\n" in out) == (0, True)
