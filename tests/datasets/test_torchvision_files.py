"""Files of torchvision's data sets that are missing, damaged, or something else."""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedcli.datasets import DataOptions, load_dataset
from fedcli.errors import DataError, MissingDependencyError, NotReadyError

PAGE = b"<!DOCTYPE html><html><title>404</title></html>"
IMAGES = "train-images-idx3-ubyte"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


def mnist(root: Path, name: str = "MNIST") -> Path:
    """MNIST's files with twelve and six pictures."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("t10k", 6)):
        pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8).reshape(count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        labels = (np.arange(count) % 2).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_the_files_of_these_tests_are_good_ones(tmp_path):
    mnist(tmp_path)
    assert len(load_dataset("mnist", DataOptions(data_dir=tmp_path)).train.labels) == 12


@pytest.mark.parametrize("file", [IMAGES, "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize(("content", "said"), [(PAGE, "is an HTML page"), (b"", "is empty")])
@pytest.mark.parametrize("name", ["MNIST", "KMNIST"])
def test_a_page_in_place_of_a_file_is_named(tmp_path, file, content, said, name):
    path = mnist(tmp_path, name) / file
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=f"{said}; expected a file of torchvision's {name}"
    ) as caught:
        load_dataset(name.lower(), DataOptions(data_dir=tmp_path))
    assert caught.value.path == path
    assert caught.value.hint == "remove it, and repeat the command with --download"


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[: len(good) // 2],
        lambda good: b"\0\0\x0c\x03" + good[4:],
        lambda good: b"\x7f\x7f\x7f\x7f" + good[4:],
        lambda good: good[:3],
        lambda good: gzip.compress(good),
        lambda good: good[:4] + b"\xff" * 12 + good[16:],
    ],
)
def test_a_damaged_file_is_a_data_error_in_one_line(tmp_path, damage):
    path = mnist(tmp_path) / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="torchvision cannot read its files of mnist") as caught:
        load_dataset("mnist", DataOptions(data_dir=tmp_path))
    assert caught.value.path == tmp_path
    assert "\n" not in str(caught.value)


def test_a_page_in_place_of_an_archive_is_named(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(PAGE)
    with pytest.raises(DataError, match="is an HTML page") as caught:
        load_dataset("cifar10", DataOptions(data_dir=tmp_path))
    assert caught.value.path == path


def test_a_page_of_another_data_set_is_not_blamed(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(PAGE)
    with pytest.raises(NotReadyError, match=r"no \(complete\) stl10 data set"):
        load_dataset("stl10", DataOptions(data_dir=tmp_path))


def caltech101(root: Path) -> None:
    for label in ("ant", "bee"):
        folder = root / "caltech101" / "101_ObjectCategories" / label
        folder.mkdir(parents=True)
        (root / "caltech101" / "Annotations" / label).mkdir(parents=True)
        for number in (1, 2, 3):
            Image.new("RGB", (8, 8)).save(folder / f"image_{number:04}.jpg")


@pytest.mark.parametrize("name", ["caltech101", "svhn", "flowers102"])
def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch, name):
    caltech101(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(MissingDependencyError, match=f"{name}: needs the package scipy") as caught:
        load_dataset(name, DataOptions(data_dir=tmp_path))
    assert caught.value.hint == "pip install 'fedcli[datasets]'"


def test_a_package_that_torchvision_misses_is_named(tmp_path, monkeypatch):
    caltech101(tmp_path)
    for module in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingDependencyError, match="caltech101: needs the package scipy"):
        load_dataset("caltech101", DataOptions(data_dir=tmp_path))
