"""Which axes of an array are channels, height and width; and sizes that are checked unread."""

import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedcli.datasets import DataOptions, load_dataset
from fedcli.datasets.own import open_examples
from fedcli.errors import DataError, UsageError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo


class Said(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def saved(path: Path, shape: tuple[int, ...], dtype: str = "u1", axis: int = 0) -> Path:
    """An npz file of random pictures, two classes of them along ``axis``."""
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.savez(path, x=values, y=np.arange(shape[axis]) % 2)
    return path


@pytest.mark.parametrize(
    ("shape", "read", "example"),
    [
        ((6, 8, 9), "N,H,W", (1, 8, 9)),
        ((6, 5, 32, 32), "N,C,H,W", (5, 32, 32)),
        ((6, 32, 32, 5), "N,H,W,C", (5, 32, 32)),
        ((6, 1, 8, 8), "N,C,H,W", (1, 8, 8)),
        ((6, 3, 8, 4), "N,C,H,W", (3, 8, 4)),
        ((6, 4, 4, 3), "N,H,W,C", (3, 4, 4)),
        ((6, 13, 64, 64), "N,C,H,W", (13, 64, 64)),
    ],
)
@pytest.mark.parametrize("layout", [None, "given"])
def test_the_smallest_of_the_first_and_the_last_axis_is_the_channels(
    tmp_path, shape, read, example, layout
):
    # Three axes of floating-point numbers may be anything, unless they are said to be pictures.
    path, said = (
        saved(tmp_path / "a.npz", shape, "f4" if layout or len(shape) == 4 else "u1"),
        Said(),
    )
    own = {"layout": read.replace(",", "")} if layout else {}
    data = load_dataset(f"npz:{path}", DataOptions(progress=said), own)
    assert data.shape == example
    assert f"{path}: x is read as {read}" in said.lines
    values = np.load(path)["x"]
    axes = {"N,H,W": (0, 3, 1, 2), "N,C,H,W": (0, 1, 2, 3), "N,H,W,C": (0, 3, 1, 2)}[read]
    values = values[..., None] if read == "N,H,W" else values
    stored = {one.tobytes() for one in values.transpose(axes).copy()}
    found = data.train.read(np.arange(len(data.train.labels)))
    assert {one.tobytes() for one in np.ascontiguousarray(found)} < stored


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((6, 28, 28, 28), "may be volumes"),
        ((6, 20, 64, 64), "may be volumes"),
        ((6, 3, 32, 3), "may be N,H,W,C or N,C,H,W"),
        ((6, 3, 3, 3), "may be N,H,W,C or N,C,H,W"),
    ],
)
def test_axes_that_may_be_two_things_are_refused_with_what_to_type(tmp_path, shape, said, dtype):
    path = saved(tmp_path / "a.npz", shape, dtype)
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(f"npz:{path}", DataOptions())
    assert "--layout NCHW" in (caught.value.hint or "")
    assert str(path) in caught.value.message
    data = load_dataset(f"npz:{path}", DataOptions(), {"layout": "nchw"})
    assert data.shape == shape[1:]
    assert data.identity["layout"] == "NCHW"


def test_volumes_with_channels_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"found shape \[6, 1, 8, 8, 8\]") as caught:
        load_dataset(f"npz:{saved(tmp_path / 'a.npz', (6, 1, 8, 8, 8))}", DataOptions())
    assert "one slice of each" in (caught.value.hint or "")


@pytest.mark.parametrize(("layout", "axis"), [("HWCN", 3), ("CHWN", 3), ("NWHC", 0), ("HWN", 2)])
def test_a_layout_may_name_any_order(tmp_path, layout, axis):
    path = saved(tmp_path / "a.npz", (6, 5, 4, 7)[: len(layout)], axis=axis)
    data = load_dataset(f"npz:{path}", DataOptions(), {"layout": layout})
    values = np.load(path)["x"]
    order = [layout.index(one) for one in "NCHW" if one in layout]
    expected = values.transpose(order)
    assert data.shape == (expected.shape[1:] if "C" in layout else (1, *expected.shape[1:]))


@pytest.mark.parametrize("layout", ["NHCC", "HW", "NHWCX", "", "NDHW"])
def test_a_layout_of_other_letters_is_a_usage_error(tmp_path, layout):
    path = saved(tmp_path / "a.npz", (6, 8, 8))
    with pytest.raises(UsageError, match="--layout"):
        load_dataset(f"npz:{path}", DataOptions(), {"layout": layout})


def test_a_layout_of_another_number_of_axes_is_refused(tmp_path):
    path = saved(tmp_path / "a.npz", (6, 8, 8))
    with pytest.raises(DataError, match="names 4 axes"):
        load_dataset(f"npz:{path}", DataOptions(), {"layout": "NHWC"})


def test_a_client_says_the_axes_of_its_own_file(tmp_path):
    info, said = DatasetInfo("own", ("0", "1"), (3, 3, 3)), Said()
    path = saved(tmp_path / "a.npz", (6, 3, 3, 3))
    with pytest.raises(DataError, match="may be N,H,W,C"):
        open_examples(str(path), info, "train", said)
    part = open_examples(str(path), info, "train", said, reading={"layout": "NHWC"})
    expected = np.load(path)["x"].transpose(0, 3, 1, 2)
    assert np.array_equal(part.read(np.arange(6)), expected)


# sizes before bytes


def header(shape: object, dtype: str = "|u1", version: int = 1) -> bytes:
    """The header of an npy file that declares these."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def npz(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """An npz file whose array x has this content, with the labels of six examples."""
    labels = io.BytesIO()
    np.save(labels, np.arange(6) % 2)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", content)
        file.writestr("y.npy", labels.getvalue())
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((6, 8, 8)) + bytes(100), "384 bytes, but it holds 100"),
        (header((6, 8, 8)) + bytes(1000), "384 bytes, but it holds 1,000"),
        (header((10**15, 8, 8)) + bytes(100), "but it holds 100"),
        (header((-6, 8, 8)) + bytes(384), "negative shape"),
        (header((6, -8, -8)) + bytes(384), "negative shape"),
        (header("(6, '8')"), "header cannot be read"),
        (header("[" * 5000), "header cannot be read"),
        (header((6, 8, 8), "no dtype"), "header cannot be read"),
        (header((6, 8, 8), "|O") + bytes(3072), "Python objects"),
        (header(f"(6,{' ' * 20_000})"), "header cannot be read"),
        (header((6, 8, 8), version=2)[:9], "header cannot be read"),
        (b"\x93NUMPY\x09\0", "not a readable array"),
        (b"", "not a readable array"),
        (header((6, 8, 8), "<m8[s]") + bytes(3072), "m8|timedelta"),
        (header((6, 8), "|V3") + bytes(144), "V3"),
    ],
)
def test_a_header_that_does_not_fit_is_a_data_error_that_names_file_and_array(
    tmp_path, content, said
):
    path = npz(tmp_path / "a.npz", content)
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(f"npz:{path}", DataOptions())
    assert str(path) in caught.value.message
    assert "x" in caught.value.message


def test_an_array_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as member:
            member.write(header((6, 10_000, 10_000)))
            for _ in range(60):
                member.write(bytes(10_000_000))
        labels = io.BytesIO()
        np.save(labels, np.arange(6) % 2)
        file.writestr("y.npy", labels.getvalue())
    script = f"""
import resource
from fedcli.datasets import DataOptions, load_dataset
from fedcli.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_dataset("npz:{path}", DataOptions())
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    said, grown = done.stdout.splitlines()
    assert "bomb.npz: x: not a readable array: it unpacks from" in said
    assert int(grown) < 30


def test_a_strip_in_an_array_that_resizing_would_blow_up_is_refused(tmp_path):
    path = saved(tmp_path / "a.npz", (6, 1, 3000))
    data = load_dataset(f"npz:{path}", DataOptions(image_size=224))
    with pytest.raises(DataError, match="would be resized to 672000×224"):
        data.train.read(np.arange(1))
