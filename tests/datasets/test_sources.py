"""Data sets: what is on disk is what the examples hold, and what is wrong is named."""

import errno
import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedcli.datasets import DATASETS, DataOptions, load_dataset, load_examples
from fedcli.datasets.torchvision_sets import SOURCES
from fedcli.errors import DataError, FedcliError, NotReadyError, StorageError, UsageError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo

RGB = (200, 100, 50)


class Lines(Silence):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def all_of(part):
    return part.read(np.arange(len(part.labels)))


def picture(path: Path, mode: str = "RGB", size=(8, 8), colour=RGB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for half, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("bee", "ant")):
            for number in range(count):
                colour = (label * 100, number * 10, 7)
                picture(tmp_path / half / name / f"{number}.png", colour=colour)
    return tmp_path


# synthetic


def test_synthetic_is_the_same_everywhere():
    data = load_dataset("synthetic", DataOptions())
    train = data.train.read(np.arange(200))
    digest = hashlib.sha256(train.tobytes() + data.test.read(np.arange(50)).tobytes()).hexdigest()
    assert digest == "db64d46237691c7e93306c79a2d1ced83e749c944a9aaede1bef12548e9ead3e"
    assert (len(data.train.labels), len(data.test.labels)) == (6000, 1000)


def test_a_synthetic_picture_does_not_depend_on_what_else_is_read():
    part = load_dataset("synthetic", DataOptions()).train
    together = part.read(np.array([5, 17, 90]))
    assert np.array_equal(together[1], part.read(np.array([17]))[0])
    assert len({picture.tobytes() for picture in part.read(np.arange(300))}) == 300


def test_synthetic_training_and_test_pictures_differ():
    data = load_dataset("synthetic", DataOptions())
    assert not np.array_equal(data.train.read(np.arange(1)), data.test.read(np.arange(1)))


# imagefolder


def test_a_folder_gives_its_pixels_and_its_classes_in_sorted_order(folder):
    data = load_dataset(f"imagefolder:{folder}", DataOptions())
    assert data.classes == ("ant", "bee")
    assert data.shape == (3, 8, 8)
    pixels = all_of(data.train)
    assert pixels.dtype == np.uint8
    assert pixels[:, :, 0, 0].tolist() == [
        [100 - 100 * int(label), number % 4 * 10, 7]
        for number, label in enumerate(data.train.labels)
    ]
    assert len(data.test.labels) == 4


MODES = {
    "png": ("RGB", "RGBA", "P", "L", "1", "LA", "I;16"),
    "jpg": ("RGB", "L", "CMYK"),
    "tif": ("RGB", "RGBA", "P", "L", "1", "CMYK", "I;16"),
    "bmp": ("RGB", "P", "L"),
    "gif": ("P", "L"),
    "webp": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(
    ("suffix", "mode"), [(suffix, mode) for suffix in MODES for mode in MODES[suffix]]
)
def test_any_format_and_mode_becomes_rgb(tmp_path, suffix, mode):
    image = Image.new("RGB", (8, 8), (100, 100, 100)).convert(mode.replace("I;16", "L"))
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 100 * 256 + 3, np.uint16))
    if mode == "1":
        image = Image.new("1", (8, 8), 1)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / f"0.{suffix}")
    read = load_dataset(f"imagefolder:{tmp_path}", DataOptions()).train.read(np.arange(1))
    assert read.shape == (1, 3, 8, 8)
    assert abs(read.astype(int) - (255 if mode == "1" else 100)).max() <= 3


def test_a_transparent_palette_is_read_without_a_warning(tmp_path):
    image = Image.new("P", (8, 8), 3)
    image.putpalette([10, 20, 30] * 256)
    for name in ("ant", "bee"):
        path = tmp_path / name / "0.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path, transparency=bytes([0, 128, 255, 77]))
    data = load_dataset(f"imagefolder:{tmp_path}", DataOptions())
    assert data.train.read(np.arange(1))[0, :, 0, 0].tolist() == [10, 20, 30]


def test_pictures_of_other_sizes_are_scaled_and_cut_from_the_middle(tmp_path):
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = RGB  # the middle third is what is left of a 3:1 picture
    for name in ("ant", "bee"):
        path = tmp_path / name / "0.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(wide).save(path)
    data = load_dataset(f"imagefolder:{tmp_path}", DataOptions(image_size=16))
    assert (data.train.read(np.arange(1))[0] == np.array(RGB)[:, None, None]).all()
    smaller = load_dataset(f"imagefolder:{tmp_path}", DataOptions(image_size=8))
    assert (smaller.train.read(np.arange(1))[0, :, :, 4] == np.array(RGB)[:, None]).all()


def test_the_first_picture_sets_the_size_up_to_a_shorter_side_of_224(tmp_path):
    lines = Lines()
    picture(tmp_path / "ant" / "a.png", size=(600, 448))
    picture(tmp_path / "bee" / "b.png", size=(30, 20))
    data = load_dataset(f"imagefolder:{tmp_path}", DataOptions(progress=lines))
    assert data.shape == (3, 224, 300)
    assert all_of(data.train).shape[1:] == data.shape
    assert any("300×224" in line for line in lines.lines)


def test_a_folder_without_halves_is_split_class_by_class(tmp_path):
    for name, count in (("ant", 10), ("bee", 20)):
        for number in range(count):
            picture(tmp_path / name / f"{number:02d}.png", colour=(number, len(name), count))
    data = load_dataset(f"imagefolder:{tmp_path}", DataOptions(test_fraction=0.3))
    assert np.bincount(data.train.labels).tolist() == [7, 14]
    assert np.bincount(data.test.labels).tolist() == [3, 6]
    seen = {one.tobytes() for one in (*all_of(data.train), *all_of(data.test))}
    assert len(seen) == 30


def test_files_that_are_no_pictures_are_passed_over_and_said(folder):
    (folder / "train" / "ant" / "notes.txt").write_text("x")
    (folder / "train" / "ant" / ".hidden.png").write_text("x")
    lines = Lines()
    data = load_dataset(f"imagefolder:{folder}", DataOptions(progress=lines))
    assert len(data.train.labels) == 8
    assert any("notes.txt" in line for line in lines.lines)


def test_a_picture_that_does_not_decode_is_named(folder):
    good = (folder / "train" / "bee" / "0.png").read_bytes()
    (folder / "train" / "bee" / "3.png").write_bytes(good[: len(good) // 2])
    data = load_dataset(f"imagefolder:{folder}", DataOptions())
    with pytest.raises(DataError, match=r"bee.3\.png"):
        all_of(data.train)


def test_the_identity_changes_with_the_files_and_not_with_their_place(folder, tmp_path_factory):
    first = load_dataset(f"imagefolder:{folder}", DataOptions())
    moved = folder.rename(tmp_path_factory.mktemp("other") / "place")
    assert load_dataset(f"imagefolder:{moved}", DataOptions()).identity == first.identity
    picture(moved / "train" / "ant" / "9.png")
    assert load_dataset(f"imagefolder:{moved}", DataOptions()).identity != first.identity


def test_the_identity_changes_with_a_picture_of_the_same_size_in_bytes(folder):
    first = load_dataset(f"imagefolder:{folder}", DataOptions())
    for one, other in (("train/ant/0.png", "train/ant/1.png"), ("test/ant/0.png", "x")):
        path = folder / one
        before = path.read_bytes()
        changed = (folder / other).read_bytes() if other != "x" else before[:-1] + b"x"
        assert len(changed) == len(before)
        path.write_bytes(changed)
        assert load_dataset(f"imagefolder:{folder}", DataOptions()).identity != first.identity
        path.write_bytes(before)
    assert load_dataset(f"imagefolder:{folder}", DataOptions()).identity == first.identity


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


def circular(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [dangling, circular])
def test_a_link_that_leads_nowhere_is_named(folder, make):
    make(folder / "train" / "ant" / "9.png")
    with pytest.raises(DataError, match=r"cannot read links to files that are missing: .*9\.png"):
        load_dataset(f"imagefolder:{folder}", DataOptions())
    with pytest.raises(DataError, match=r"cannot read links to files that are missing: .*9\.png"):
        load_examples(str(folder), INFO, "train", Silence())


@pytest.mark.parametrize("name", ["train", "train/ant", "train/ant/1.png"])
def test_what_may_not_be_read_is_named(folder, monkeypatch, name):
    refuse_to_open(folder / name, monkeypatch)
    with pytest.raises(StorageError, match=f"{folder / name}: cannot read: Permission denied"):
        load_dataset(f"imagefolder:{folder}", DataOptions())


def refuse_to_open(refused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as the system does for a user without the permission; tests may run as root."""
    scan, open_file = os.scandir, os.open

    def scandir(path):
        if Path(path) == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    def open_(path, *arguments, **options):
        if Path(path) == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "open", open_)


def empty(root: Path) -> None:
    pass


def empty_class(root: Path) -> None:
    picture(root / "ant" / "0.png")
    (root / "bee").mkdir()


def only_train(root: Path) -> None:
    picture(root / "train" / "ant" / "0.png")


def unknown_test_class(root: Path) -> None:
    picture(root / "train" / "ant" / "0.png")
    picture(root / "test" / "wasp" / "0.png")


@pytest.mark.parametrize("make", [empty, empty_class, only_train, unknown_test_class])
def test_a_folder_that_is_not_laid_out_right_is_a_data_error(tmp_path, make):
    make(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        load_dataset(f"imagefolder:{tmp_path}", DataOptions())


# npz


def arrays(count: int, shape: tuple[int, ...], dtype=np.uint8, seed: int = 0):
    values = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(dtype)
    return values, np.arange(count) % 3


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 1), (3, 6, 7)])
def test_medmnist_arrays_come_through_unchanged(tmp_path, save, shape):
    x, y = arrays(9, shape)
    save(
        tmp_path / "a.npz",
        train_images=x, train_labels=y[:, None], val_images=x, val_labels=y[:, None],
        test_images=x[::-1], test_labels=y[::-1, None],
    )  # fmt: skip
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions())
    channels = 1 if len(shape) == 2 or shape[-1] == 1 else 3
    assert data.shape == (channels, 6, 7)
    assert data.classes == ("0", "1", "2")
    expected = x if shape == (3, 6, 7) else x.reshape(9, 6, 7, channels).transpose(0, 3, 1, 2)
    assert np.array_equal(all_of(data.train), expected)
    assert np.array_equal(all_of(data.test), expected[::-1])
    assert data.test.labels.tolist() == y[::-1].tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_float_arrays_are_used_as_they_are(tmp_path, order):
    x, y = arrays(30, (5,), np.float64)
    np.savez(tmp_path / "a.npz", x=np.asarray(x, order=order), y=y, class_names=list("abc"))
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions())
    assert (data.shape, data.dtype, data.classes) == ((5,), np.float32, ("a", "b", "c"))
    rows = {one.tobytes() for one in (*all_of(data.train), *all_of(data.test))}
    assert rows == {one.astype(np.float32).tobytes() for one in x}


PICTURES, LABELS = arrays(6, (4, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": PICTURES}, "expected the arrays"),
        ({"x": PICTURES, "y": LABELS[:5]}, "6 examples, 5 labels"),
        ({"x": PICTURES, "y": LABELS.astype(float)}, "one integer"),
        ({"x": PICTURES, "y": np.eye(6, dtype=int)}, "one integer"),
        ({"x": PICTURES, "y": LABELS - 1}, "start at 0"),
        ({"x": PICTURES, "y": LABELS + 10**8}, "label 100000002: .* at most 10000 classes"),
        ({"x": PICTURES, "y": LABELS + 10_000 - 2}, "label 10000: "),
        ({"x": PICTURES, "y": LABELS, "class_names": ["a", "b"]}, "outside the 2 classes"),
        ({"x": PICTURES.astype(np.int32), "y": LABELS}, "int32"),
        ({"x": PICTURES[:, 0], "y": LABELS}, "expected pictures"),
        ({"x": PICTURES[:0], "y": LABELS[:0]}, "found none"),
        ({"x": np.array([None] * 6), "y": LABELS}, "Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_a_data_error_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "a.npz"
    np.savez(path, **content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(f"npz:{path}", DataOptions())
    assert str(path) in caught.value.message


def test_a_value_that_is_not_finite_is_named(tmp_path):
    x = np.ones((6, 4))
    x[4, 2] = np.nan
    np.savez(tmp_path / "a.npz", x_train=x, y_train=LABELS, x_test=x, y_test=LABELS)
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions())
    with pytest.raises(DataError, match="example 4"):
        all_of(data.train)


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"no zip", lambda b: b""])
def test_a_damaged_npz_is_a_data_error(tmp_path, damage):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=PICTURES, y=LABELS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"a\.npz"):
        load_dataset(f"npz:{path}", DataOptions())


# torchvision


def write_mnist(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 3)):
        pixels = np.full((count, 28, 28), count, np.uint8)
        header = struct.pack(">iiii", 2051, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = np.arange(count, dtype=np.uint8)
        header = struct.pack(">ii", 2049, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
        for name in ("images-idx3", "labels-idx1"):
            raw = folder / f"{part}-{name}-ubyte"
            Path(f"{raw}.gz").write_bytes(gzip.compress(raw.read_bytes()))


def test_mnist_stays_grey(tmp_path):
    write_mnist(tmp_path)
    data = load_dataset("mnist", DataOptions(data_dir=tmp_path))
    assert data.shape == (1, 28, 28)
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert (all_of(data.train) == 6).all()
    assert (all_of(data.test) == 3).all()
    assert data.classes[0] == "0 - zero"


@pytest.mark.parametrize(
    ("first", "last", "message"), [(1, 6, "no training examples of: 0 - zero"), (250, 255, None)]
)
def test_labels_of_idx_files_are_those_of_classes(tmp_path, first, last, message):
    write_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels = np.arange(first, last + 1, dtype=np.uint8)
    raw.write_bytes(struct.pack(">ii", 2049, 6) + labels.tobytes())
    lines = Lines()
    options = DataOptions(data_dir=tmp_path, progress=lines)
    if message is None:
        with pytest.raises(DataError, match="label 255 is outside the 10 classes"):
            load_dataset("mnist", options)
    else:
        load_dataset("mnist", options)
        assert any(message in line for line in lines.lines)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_identity_of_mnist_changes_with_a_pixel(tmp_path):
    write_mnist(tmp_path)
    options = DataOptions(data_dir=tmp_path)
    first = load_dataset("mnist", options).identity
    assert load_dataset("mnist", options).identity == first
    flip_a_bit(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte")
    assert load_dataset("mnist", options).identity != first


def write_gtsrb(root: Path) -> Path:
    for number in range(3):
        path = picture(root / "gtsrb/GTSRB/Training/00000" / f"{number}.ppm", colour=(number, 0, 0))
    test = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    picture(test / "00000.ppm")
    (root / "gtsrb" / "GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;0\n")
    return path


def write_caltech101(root: Path) -> Path:
    for folder in ("Annotations", "101_ObjectCategories/BACKGROUND_Google"):
        (root / "caltech101" / folder).mkdir(parents=True)
    for number in range(1, 4):
        name = f"101_ObjectCategories/ant/image_{number:04d}.jpg"
        path = picture(root / "caltech101" / name, colour=(number, 0, 0))
    return path


@pytest.mark.parametrize(
    ("name", "write"), [("gtsrb", write_gtsrb), ("caltech101", write_caltech101)]
)
def test_the_identity_of_torchvisions_folders_changes_with_a_file(tmp_path, name, write):
    path = write(tmp_path)
    options = DataOptions(data_dir=tmp_path, image_size=8)
    first = load_dataset(name, options).identity
    assert load_dataset(name, options).identity == first
    flip_a_bit(path)
    assert load_dataset(name, options).identity != first


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def dump(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(value: int) -> dict[str, object]:
        return {"data": np.full((2, 3072), value, np.uint8), "labels": [value % 10, 3]}

    names = [name for name, _ in CIFAR10.train_list]
    train = [[name, dump(name, batch(n))] for n, name in enumerate(names)]
    test = [["test_batch", dump("test_batch", batch(77))]]
    classes = {"label_names": [f"class {n}" for n in range(10)]}
    meta = {**CIFAR10.meta, "md5": dump("batches.meta", classes)}
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", meta)


def test_cifar10_is_read_from_its_batches(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    data = load_dataset("cifar10", DataOptions(data_dir=tmp_path))
    assert data.shape == (3, 32, 32)
    assert data.train.labels.tolist() == [0, 3, 1, 3, 2, 3, 3, 3, 4, 3]
    assert all_of(data.train)[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (all_of(data.test) == 77).all()
    assert data.classes[9] == "class 9"


def test_stl10_is_read_from_its_binary_files(tmp_path, monkeypatch):
    from torchvision.datasets import STL10

    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    folder = tmp_path / STL10.base_folder
    folder.mkdir()
    (folder / "class_names.txt").write_text("\n".join(f"c{n}" for n in range(10)))
    for part, count in (("train", 4), ("test", 2)):
        pixels = np.full((count, 3, 96, 96), 10 * count, np.uint8)
        (folder / f"{part}_X.bin").write_bytes(pixels.tobytes())
        (folder / f"{part}_y.bin").write_bytes(np.arange(1, count + 1, dtype=np.uint8).tobytes())
    data = load_dataset("stl10", DataOptions(data_dir=tmp_path, image_size=32))
    assert data.train.labels.tolist() == [0, 1, 2, 3]
    assert all_of(data.train).shape == (4, 3, 32, 32)
    assert (all_of(data.test) == 20).all()


def test_every_name_is_a_data_set_of_the_installed_torchvision():
    import torchvision.datasets

    assert all(hasattr(torchvision.datasets, source.name) for source in SOURCES.values())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_data_set_that_is_not_there_is_said_with_what_to_do(tmp_path, name):
    with pytest.raises(FedcliError) as caught:
        load_dataset(name, DataOptions(data_dir=tmp_path / "data"))
    assert caught.value.kind in ("not-ready", "missing-dependency")
    assert caught.value.hint


# all


@pytest.mark.parametrize(
    "spec", ["imagenet21k", "", "npz", "imagefolder:", "synthetic:9", "mnist:x"]
)
def test_an_unknown_or_misused_name_is_a_usage_error(spec):
    with pytest.raises(UsageError, match="--dataset"):
        load_dataset(spec, DataOptions())


@pytest.mark.parametrize("name", ["imagefolder", "npz"])
def test_a_path_that_is_not_there_is_not_ready(tmp_path, name):
    with pytest.raises(NotReadyError, match="nowhere"):
        load_dataset(f"{name}:{tmp_path / 'nowhere'}", DataOptions())


def test_the_registry_lists_the_names_that_the_documentation_promises():
    promised = {"synthetic", "imagefolder", "npz", "cifar10", "cifar100", "mnist"}
    assert promised | {"fashion-mnist", "emnist", "svhn", "stl10"} <= set(DATASETS)


# a person's own data

INFO = DatasetInfo("own", ("ant", "bee"), (3, 8, 8))


def test_own_pictures_take_the_shape_and_the_class_numbers_of_the_run(folder):
    info = DatasetInfo("own", ("bee", "wasp", "ant"), (3, 4, 4))
    examples = load_examples(str(folder), info, "train", Silence())
    assert examples.x.shape == (8, 3, 4, 4)
    assert sorted(examples.y.tolist()) == [0, 0, 0, 0, 2, 2, 2, 2]
    assert examples.x[examples.y == 2][:, 0].max() == 100
    assert len(load_examples(str(folder), info, "test", Silence())) == 4
    assert len(load_examples(str(folder / "train"), info, "test", Silence())) == 8


def test_own_grey_pictures_fit_a_grey_run(folder):
    examples = load_examples(str(folder), DatasetInfo("own", ("ant", "bee"), (1, 8, 8)), "train",
                             Silence())  # fmt: skip
    assert examples.x.shape == (8, 1, 8, 8)


def test_own_classes_that_the_run_does_not_have_are_named(folder):
    with pytest.raises(DataError, match="'bee'"):
        load_examples(str(folder), DatasetInfo("own", ("ant", "wasp"), (3, 8, 8)), "train",
                      Silence())  # fmt: skip


def test_own_arrays_go_by_class_name_when_they_have_any(tmp_path):
    x, _ = arrays(4, (8, 8))
    y = np.array([0, 1, 1, 0])
    np.savez(tmp_path / "named.npz", x=x, y=y, class_names=["bee", "ant"])
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    named = load_examples(str(tmp_path / "named.npz"), INFO, "train", Silence())
    plain = load_examples(str(tmp_path / "plain.npz"), INFO, "train", Silence())
    assert named.y.tolist() == [1, 0, 0, 1]
    assert plain.y.tolist() == [0, 1, 1, 0]
    assert np.array_equal(plain.x, np.repeat(x[:, None], 3, axis=1))


@pytest.mark.parametrize(
    "content",
    [
        {"x": PICTURES, "y": LABELS},
        {"x": PICTURES.astype(float), "y": LABELS % 2},
        {"x": PICTURES, "y": LABELS % 2, "class_names": ["ant", "wasp"]},
        {"train_images": PICTURES, "train_labels": LABELS % 2},
    ],
)
def test_own_arrays_that_do_not_fit_the_run_are_a_data_error(tmp_path, content):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=r"a\.npz"):
        load_examples(str(tmp_path / "a.npz"), INFO, "test", Silence())
