"""How folders are understood: parts, classes, groups, and what is left out."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedcli.datasets import DataOptions, Dataset, load_dataset, open_examples
from fedcli.errors import BadFilesError, DataError, error_from_json
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo

INFO = DatasetInfo("own", ("ant", "bee"), (3, 4, 4))


class Spoken(Silence):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, line: str) -> None:
        self.text += f"{line}\n"


def tree(root: Path, *names: str) -> Path:
    """Write pictures, each of its own colour; a name with a star stands for two."""
    paths = [name.replace("*", str(n)) for name in names for n in range(1 + ("*" in name))]
    for number, name in enumerate(paths):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
        else:
            path.write_text("no picture")
    return root


def load(root: Path, **own: object) -> tuple[Dataset, str]:
    spoken = Spoken()
    return load_dataset(f"imagefolder:{root}", DataOptions(progress=spoken), own), spoken.text


def counts(data: Dataset) -> tuple[list[int], list[int]]:
    train, test = (np.bincount(part.labels, minlength=2) for part in (data.train, data.test))
    return train.tolist(), test.tolist()


PARTS = ("train/ant/*.png", "train/bee/*.png", "test/ant/1.png", "test/bee/1.png")


def renamed(train: str, test: str) -> list[str]:
    return [n.replace("train/", f"{train}/").replace("test/", f"{test}/") for n in PARTS]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "Test"),
        ("train", "val"),
        ("train_set", "test-set"),
        ("images/train", "images/test"),
        ("a/b/train", "a/b/valid"),
        ("train/images", "test/images"),
    ],
)
def test_parts_are_told_by_their_names(tmp_path, train, test):
    data, said = load(tree(tmp_path, *renamed(train, test)))
    assert data.classes == ("ant", "bee")
    assert counts(data) == ([2, 2], [1, 1])
    plain = (train, test) == ("train", "test")
    assert (f"{train.split('/')[0]}" in said.replace(str(tmp_path), "")) != plain


def test_a_validation_part_is_not_used_beside_a_test_part_and_said(tmp_path):
    data, said = load(tree(tmp_path, *PARTS, "val/ant/1.png", "chest/ant/1.png"))
    assert counts(data) == ([2, 2], [1, 1])
    assert "a validation part is not used" in said
    assert "beside the parts: chest" in said


def test_the_one_folder_that_holds_everything_is_read_in_its_place(tmp_path):
    data, said = load(tree(tmp_path, "images/ant/*.png", "images/bee/*.png"))
    assert data.classes == ("ant", "bee")
    assert "images/ holds everything" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("images/*.png",), "at least two, found one: 'images'"),
        (("a/*.png", "b/notes.txt"), "at least two, found one: 'a'"),
        (("1.png", "2.png"), "at least two, found none"),
        (("a/1.dcmx", "b/2.dcmx"), "found none, but files of these kinds: .dcmx"),
        (("train/ant/1.png", "Train/bee/1.png", "test/ant/1.png"), "are both a train part"),
        (("train/ant/*.png", "train/bee/*.png"), "has train/ but no test part"),
        (("test/ant/*.png", "val/bee/*.png"), "but no training part"),
        (("train/*.png", "test/*.png"), "hold pictures, but no class folders"),
        ((*PARTS, "test/wasp/1.png"), "no class 'wasp'"),
        (("s1/ant/1.png", "s1/bee/1.png", "s2/ant/1.png", "s2/bee/1.png"), "of the same names"),
        (("s1/ant/1.png", "s2/ant/1.png", "s3/bee/1.png"), "of the same names"),
        (("x/images/1.png", "x/masks/1.png", "y/images/1.png", "y/masks/1.png"), "the same names"),
    ],
)
def test_what_can_be_read_in_no_way_or_in_two_is_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tree(tmp_path, *names))
    assert str(tmp_path) in caught.value.message


def test_a_table_beside_pictures_without_class_folders_is_offered(tmp_path):
    with pytest.raises(DataError, match="at least two, found one: 'images'") as caught:
        load(tree(tmp_path, "images/*.png", "train.csv"))
    assert caught.value.hint == "if train.csv has the labels: --labels-csv FILE"


def test_folders_of_the_same_names_are_read_as_the_option_says(tmp_path):
    tree(
        tmp_path, *(f"{s}/{c}/{n}.png" for s in ("s1", "s2") for c in ("ant", "bee") for n in "12")
    )
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert "--group folder" in caught.value.hint
    assert "--group none" in caught.value.hint
    data, _ = load(tmp_path, group="folder")
    assert (data.classes, data.group_names) == (("ant", "bee"), ("s1", "s2"))
    data, _ = load(tmp_path, group="none")
    assert (data.classes, data.group_names) == (("s1", "s2"), ())


@pytest.mark.parametrize(
    "names",
    [
        ("ant/2019/1.png", "ant/2020/1.png", "bee/p7/1.png", "bee/p8/1.png"),
        ("ant/images/*.png", "bee/images/*.png"),
        ("train/1.png", "train/2.png", "bus/1.png", "car/1.png"),
    ],
)
def test_folders_below_and_beside_classes_are_of_the_classes(tmp_path, names):
    data, _ = load(tree(tmp_path, *names))
    assert data.classes == tuple(sorted({name.split("/")[0] for name in names}))


LEFT_OUT = {
    "@eaDir/1.png": "made by the system",
    "__MACOSX/ant/1.png": "made by the system",
    ".thumbnails/1.png": "hidden",
    "ant/.cache/1.png": "hidden",
    "ant/@eaDir/1.png": "made by the system",
    "ant/._1.png": "hidden",
    "labels/1.txt": "no picture in this folder",
    "ant/notes.txt": "not a picture",
    "9.png": "beside the class folders",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_no_example_is_left_out_and_said(tmp_path, name):
    data, said = load(tree(tmp_path, "ant/*.png", "bee/*.png", name))
    assert data.classes == ("ant", "bee")
    assert len(data.train.labels) + len(data.test.labels) == 4
    assert f"left out, {LEFT_OUT[name]}" in said


LINKS = {
    "to a parent": ("ant/up", "..", "leads back to|read already"),
    "to a parent of all": ("ant/up", "../..", "leads back to a parent folder"),
    "to its own folder": ("ant/me", ".", "a link to ant, which is read already"),
    "to another class": ("aa", "bee", "a link to bee, which is read already"),
    "below a class": ("ant/other", "../bee", "a link to bee, which is read already"),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_folder_that_links_lead_to_is_read_once(tmp_path, name):
    place, target, message = LINKS[name]
    root = tree(tmp_path / "data", "ant/*.png", "bee/*.png")
    tree(tmp_path, "elsewhere/1.png")
    (root / place).symlink_to(target)
    data, said = load(root)
    assert data.classes == ("ant", "bee")
    assert len(data.train.labels) + len(data.test.labels) == 4
    assert any(one in said for one in message.split("|"))


def test_a_link_out_of_the_folder_is_followed(tmp_path):
    outside = tree(tmp_path / "store", "1.png", "2.png")
    root = tree(tmp_path / "data", "ant/*.png")
    (root / "bee").symlink_to(outside)
    data, _ = load(root)
    assert data.classes == ("ant", "bee")


def test_a_class_folder_whose_name_is_not_utf_8_is_named(tmp_path):
    tree(tmp_path, "ant/1.png", os.fsdecode(b"caf\xe9/1.png"))
    with pytest.raises(DataError, match=r"caf\\udce9: the name of this folder is not UTF-8"):
        load(tmp_path)


def test_a_group_folder_whose_name_is_not_utf_8_is_named(tmp_path):
    tree(
        tmp_path, *(os.fsdecode(b"\xe9/" + c) for c in (b"ant/1.png", b"bee/1.png")), "s/ant/1.png"
    )
    with pytest.raises(DataError, match=r"\\udce9: the name of this folder is not UTF-8"):
        load(tmp_path, group="folder")


def test_a_picture_whose_name_is_not_utf_8_is_read(tmp_path):
    tree(tmp_path, "ant/*.png", "bee/*.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "ant" / os.fsdecode(b"caf\xe9.png"))
    data, _ = load(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 5


# a client's own folder


def own(root: Path, split: str = "train", info: DatasetInfo = INFO) -> tuple[list[int], str]:
    spoken = Spoken()
    part = open_examples(str(root), info, split, spoken)
    return part.labels.tolist(), spoken.text


def test_an_empty_class_folder_is_a_class_without_examples(tmp_path):
    (tree(tmp_path, "ant/*.png") / "bee").mkdir()
    labels, said = own(tmp_path)
    assert labels == [0, 0]
    assert "no examples of: bee" in said


@pytest.mark.parametrize(
    ("names", "split", "labels", "words"),
    [
        (("ant/1.png",), "train", [0], "no examples of: bee"),
        (("images/ant/1.png", "images/bee/1.png"), "train", [0, 1], "images/ holds everything"),
        (("Training/bee/1.png", "Testing/ant/1.png"), "train", [1], "Training/ is read"),
        (("Training/bee/1.png", "Testing/ant/1.png"), "test", [0], "Testing/ is read"),
        (("train/bee/1.png", "val/ant/1.png"), "test", [0], "val/ is read"),
        (("s1/ant/1.png", "s2/bee/1.png"), "train", [0, 1], "s1, s2 hold the classes"),
        (("ant/1.png", "notes/a.txt"), "train", [0], "no picture in this folder: notes"),
        (("ant/x/1.png", "bee/x/1.png"), "train", [0, 1], ""),
    ],
)
def test_a_clients_folder_is_read_by_the_classes_of_the_run(tmp_path, names, split, labels, words):
    found, said = own(tree(tmp_path, *names), split)
    assert found == labels
    assert words in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("images/1.png",), "no class 'images'; the classes are: ant, bee"),
        (("Ant/1.png", "wasp/1.png"), "no class 'Ant', 'wasp'"),
        (("ant/scan.dcmx",), "found none, but files of these kinds: .dcmx"),
        (("test/ant/1.png",), "has test/ but no train/"),
    ],
)
def test_a_clients_folder_that_does_not_fit_is_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message) as caught:
        own(tree(tmp_path, *names))
    if "Ant" in message:
        assert "is 'Ant' the class 'ant'?" in caught.value.hint
    elif "no class" in message:
        assert "rename or remove the folder" in caught.value.hint


def test_a_class_called_like_a_part_is_a_class_where_the_run_has_it(tmp_path):
    tree(tmp_path, "train/1.png", "bus/1.png")
    info = DatasetInfo("own", ("bus", "train"), (3, 4, 4))
    assert own(tmp_path, info=info)[0] == [0, 1]


# files that cannot be decoded


def broken(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:44] if path.exists() else b"")
    return root


def test_all_bad_files_are_named_at_once(tmp_path):
    tree(tmp_path, *PARTS)
    broken(tmp_path, "train/ant/0.png", "train/bee/1.png", "test/ant/1.png", "test/ant/9.png")
    data, _ = load(tmp_path)
    with pytest.raises(BadFilesError, match="4 of 7 pictures cannot be decoded") as caught:
        data.train.read(np.arange(4))
    places = {str(Path(name).relative_to(tmp_path)) for name in caught.value.files}
    assert places == {"train/ant/0.png", "train/bee/1.png", "test/ant/1.png", "test/ant/9.png"}
    assert "--skip-bad" in caught.value.hint
    passed_on = error_from_json(caught.value.as_json())
    assert isinstance(passed_on, BadFilesError)
    assert passed_on.files == caught.value.files


def test_a_message_names_the_first_ten_and_the_json_object_all(tmp_path):
    tree(tmp_path, "ant/*.png", "bee/*.png")
    broken(tmp_path, *(f"ant/x{number:02d}.png" for number in range(25)))
    data, _ = load(tmp_path)
    with pytest.raises(BadFilesError) as caught:
        data.train.read(np.arange(len(data.train.labels)))
    assert caught.value.message.count(".png: ") == 10
    assert "and 15 more (--json lists all)" in caught.value.message
    assert len(caught.value.as_json()["files"]) == 25


def test_bad_files_are_left_out_on_request_and_said(tmp_path):
    tree(tmp_path, *PARTS)
    broken(tmp_path, "train/ant/0.png", "test/bee/1.png")
    data, said = load(tmp_path, skip_bad=True)
    assert counts(data) == ([1, 2], [1, 0])
    assert [str(Path(name).relative_to(tmp_path)) for name in data.skipped] == [
        "test/bee/1.png",
        "train/ant/0.png",
    ]
    assert said.count("left out: ") == 2
    data.train.read(np.arange(3))
    (tmp_path / "train/ant/0.png").unlink()
    (tmp_path / "test/bee/1.png").unlink()
    (tmp_path / "test/bee").rmdir()
    assert load(tmp_path)[0].identity == data.identity


def test_a_client_may_leave_out_its_bad_files(tmp_path):
    broken(tree(tmp_path, "ant/*.png", "bee/*.png"), "ant/1.png")
    with pytest.raises(BadFilesError, match=r"1\.png: is a picture that cannot be decoded"):
        open_examples(str(tmp_path), INFO, "train", Silence()).read(np.arange(4))
    part = open_examples(str(tmp_path), INFO, "train", Silence(), reading={"skip_bad": True})
    assert part.read(np.arange(3)).shape == (3, 3, 4, 4)
    assert part.skipped == (str(tmp_path / "ant/1.png"),)


def test_a_folder_of_bad_files_alone_is_refused(tmp_path):
    broken(tree(tmp_path, "ant/1.png", "bee/1.png"), "ant/1.png", "bee/1.png")
    with pytest.raises(BadFilesError, match="2 of 2"):
        load(tmp_path, skip_bad=True)
