"""Labels: numbers from 0 or from 1, names, and tables beside the pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedcli.datasets import DataOptions, Dataset, load_dataset, open_examples
from fedcli.datasets.labels import from_names, from_numbers
from fedcli.errors import DataError, NotReadyError, UsageError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo

X = np.zeros((12, 4, 4), np.uint8)


class Spoken(Silence):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, line: str) -> None:
        self.text += f"{line}\n"


def of_array(path: Path, y: object, **more: object) -> tuple[Dataset, str]:
    np.savez(path, x_train=X, y_train=y, x_test=X, y_test=y, **more)
    spoken = Spoken()
    return load_dataset(f"npz:{path}", DataOptions(progress=spoken)), spoken.text


@pytest.mark.parametrize(
    ("labels", "names", "classes", "first"),
    [
        ([0, 1, 2] * 4, None, ("0", "1", "2"), 0),
        ([1, 2, 3] * 4, None, ("1", "2", "3"), 1),
        ([1, 3, 1] * 4, None, ("1", "2", "3"), 1),
        ([1, 2, 3] * 4, ["a", "b", "c"], ("a", "b", "c"), 1),
        ([1, 2, 2] * 4, ["a", "b", "c"], ("a", "b", "c"), 0),
        ([0, 3, 1] * 4, None, ("0", "1", "2", "3"), 0),
    ],
)
def test_numbers_are_counted_from_0_unless_no_label_is_0(tmp_path, labels, names, classes, first):
    more = {} if names is None else {"class_names": names}
    data, said = of_array(tmp_path / "a.npz", np.array(labels), **more)
    assert data.classes == classes
    assert data.train.labels.tolist() == [label - first for label in labels]
    assert data.test.labels.tolist() == data.train.labels.tolist()
    assert ("counted from 1: label 1 is the class" in said) == (first == 1)
    missing = [name for number, name in enumerate(classes) if number + first not in labels]
    assert ("no training examples of: " + ", ".join(missing) in said) == bool(missing)


def test_names_are_sorted(tmp_path):
    data, _ = of_array(tmp_path / "a.npz", np.array(["wasp", "ant", "bee"] * 4))
    assert data.classes == ("ant", "bee", "wasp")
    assert data.train.labels[:3].tolist() == [2, 0, 1]
    assert from_names([["10", "2", "1.0"]], "x").classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 255] * 6, "2 different labels from 0 to 255"),
        ([-1, 1] * 6, "labels start at 0, found -1"),
        ([0.5, 1] * 6, "expected one integer or one name"),
        ([1] * 12, "at least two classes, found '1'"),
        ([0] * 12, "at least two classes, found '0'"),
        (["0.5", "1.0"] * 6, "expected classes, found the number 0.5"),
        (["-1", "1"] * 6, "expected classes, found the label -1"),
        ([True, False] * 6, "expected one integer or one name"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        of_array(tmp_path / "a.npz", np.array(labels))
    assert "a.npz" in caught.value.message


def test_the_parts_are_numbered_together():
    found = from_numbers([np.array([1, 2]), np.array([0, 1])], None, "x")
    assert (found.classes, found.remark) == (("0", "1", "2"), "no training examples of: 0")


def of_client(path: Path, y: object, classes: tuple[str, ...], **more: object):
    np.savez(path, x=X, y=np.array(y), **more)
    spoken = Spoken()
    part = open_examples(str(path), DatasetInfo("own", classes, (1, 4, 4)), "train", spoken)
    return part.labels.tolist(), spoken.text


@pytest.mark.parametrize(
    ("labels", "classes", "names", "expected", "words"),
    [
        ([1, 2] * 6, ("1", "2"), None, [0, 1], ""),
        ([2, 2] * 6, ("1", "2"), None, [1, 1], "no examples of: 1"),
        ([0, 1] * 6, ("0", "1"), None, [0, 1], ""),
        ([0, 1] * 6, ("a", "b"), None, [0, 1], "0 is a, 1 is b"),
        ([0, 1] * 6, ("a", "b"), ["b", "a"], [1, 0], "matched by name: b, a"),
        ([1, 2] * 6, ("a", "b"), ["b", "a"], [1, 0], "matched by name"),
        (["b", "a"] * 6, ("a", "b"), None, [1, 0], ""),
    ],
)
def test_every_client_reads_labels_by_the_names_of_the_run(
    tmp_path, labels, classes, names, expected, words
):
    more = {} if names is None else {"class_names": names}
    found, said = of_client(tmp_path / "a.npz", labels, classes, **more)
    assert found == expected * 6
    assert words in said


@pytest.mark.parametrize(
    ("labels", "classes", "names", "message"),
    [
        ([1, 2] * 6, ("0", "1"), None, "no class '2'; the classes are: 0, 1"),
        ([0, 1] * 6, ("1", "2"), None, "no class '0'; the classes are: 1, 2"),
        ([1, 2] * 6, ("a", "b"), None, "from 1 to 2, expected 0 to 1: .* from 0, which is 'a'"),
        ([0, 1] * 6, ("a", "b"), ["a", "c"], "no class 'c'"),
        (["a", "c"] * 6, ("a", "b"), None, "no class 'c'"),
    ],
)
def test_a_label_that_the_run_does_not_have_is_named_with_its_file(
    tmp_path, labels, classes, names, message
):
    more = {} if names is None else {"class_names": names}
    with pytest.raises(DataError, match=message) as caught:
        of_client(tmp_path / "a.npz", labels, classes, **more)
    assert "a.npz" in caught.value.message


# a table beside the pictures


def pictures(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (60 * number,) * 3).save(path)
    return root


def table(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", ""), encoding="utf-8")
    return path


def load(root: Path, csv: Path, **own: object) -> tuple[Dataset, str]:
    spoken = Spoken()
    options = DataOptions(progress=spoken)
    return load_dataset(f"imagefolder:{root}", options, {"labels_csv": csv, **own}), spoken.text


def by_colour(data: Dataset) -> dict[int, str]:
    """The class of each picture, which its colour tells from the others."""
    return {
        round(int(pixels[0, 0, 0]) / 60): data.classes[label]
        for part in (data.train, data.test)
        for pixels, label in zip(
            part.read(np.arange(len(part.labels))), part.labels.tolist(), strict=True
        )
    }


HAM = ("images_1/ISIC_1.jpg", "images_1/ISIC_2.jpg", "images_2/ISIC_3.jpg", "images_2/ISIC_4.jpg")
EXPECTED = {0: "mel", 1: "nv", 2: "mel", 3: "nv"}
TABLES = {
    "HAM10000": "lesion_id,image_id,dx,age\nL1,ISIC_1,mel,5\nL1,ISIC_2,nv,5\nL2,ISIC_3,mel,5\n"
    "L2,ISIC_4,nv,5\n",
    "one-hot": "image,mel,nv\nISIC_1,1.0,0.0\nISIC_2,0.0,1.0\nISIC_3,1.0,0.0\nISIC_4,0,1\n",
    "with folders": "path;label\nimages_1/ISIC_1.jpg;mel\nimages_1\\ISIC_2.jpg;nv\n"
    "images_2/ISIC_3;mel\nISIC_4.jpg;nv\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_come_from_a_table(tmp_path, name):
    csv = table(tmp_path / "labels.csv", TABLES[name])
    data, said = load(pictures(tmp_path, *HAM), csv)
    assert data.classes == ("mel", "nv")
    assert all(EXPECTED[colour] == found for colour, found in by_colour(data).items())
    assert len(by_colour(data)) == 4
    assert "labels are those of" in said


def test_columns_are_named(tmp_path):
    csv = table(tmp_path / "a.csv", "k,sex,kind,site\n1,f,ant,x\n2,m,bee,y\n3,f,ant,x\n4,m,bee,y\n")
    pictures(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    own = {"image_column": "k", "label_column": "kind", "group_column": "site"}
    data, _ = load(tmp_path, csv, **own)
    assert (data.classes, data.group_names) == (("ant", "bee"), ("x", "y"))
    assert (data.train.groups == data.train.labels).all()
    with pytest.raises(UsageError, match=r"--image-column: .*k, sex, kind, site"):
        load(tmp_path, csv)
    with pytest.raises(UsageError, match=r"--label-column: .*k, sex, kind, site"):
        load(tmp_path, csv, image_column="k")
    with pytest.raises(UsageError, match=r"--label-column x: .*no column of that name"):
        load(tmp_path, csv, image_column="k", label_column="x")
    with pytest.raises(UsageError, match="--image-column k: belongs to --labels-csv"):
        load_dataset(f"imagefolder:{tmp_path}", DataOptions(), {"image_column": "k"})


def test_the_same_pictures_with_other_labels_are_other_data(tmp_path):
    pictures(tmp_path, *HAM)
    identities = []
    for text in (TABLES["one-hot"], TABLES["one-hot"].replace("mel,nv", "nv,mel")):
        identities.append(load(tmp_path, table(tmp_path / "a.csv", text))[0].identity)
    assert identities[0] != identities[1]


def test_pictures_without_a_row_are_left_out_and_said(tmp_path):
    pictures(tmp_path, *HAM, "test/ISIC_9.jpg")
    data, said = load(tmp_path, table(tmp_path / "labels.csv", TABLES["HAM10000"]))
    assert len(by_colour(data)) == 4
    assert "left out, no row names it: test/ISIC_9.jpg" in said


def test_rows_without_a_picture_are_named_together_or_left_out(tmp_path):
    pictures(tmp_path, *HAM)
    csv = table(tmp_path / "a.csv", TABLES["one-hot"] + "ISIC_8,1,0\nISIC_9,0,1\n")
    with pytest.raises(DataError, match=r"2 of 6 rows .*: ISIC_8, ISIC_9"):
        load(tmp_path, csv)
    data, _ = load(tmp_path, csv, skip_bad=True)
    assert len(by_colour(data)) == 4
    assert data.skipped == ("ISIC_8", "ISIC_9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\nISIC_1,mel\nISIC_2,\nISIC_3,\nISIC_4,nv\n", "line 3: no label; line 4: no"),
        ("image,label\nISIC_1,mel\nISIC_1.jpg,nv\n", "line 3: repeats ISIC_1.jpg of line 2"),
        ("image,label\nISIC_1,mel\nISIC_2\nISIC_3\n", "line 3: .*; line 4: expected 2 columns"),
        ("image,label\nISIC_1,0.5\nISIC_2,1\n", "expected classes, found the number 0.5"),
        ("image,label\nISIC_1,-1\nISIC_2,1\n", "found the label -1"),
        ("image,label\nISIC_1,a\nISIC_2,a\n", "at least two classes, found a"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_all_its_lines(tmp_path, text, message):
    pictures(tmp_path, *HAM)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, table(tmp_path / "labels.csv", text))
    assert "labels.csv" in caught.value.message


def test_one_hot_rows_need_exactly_one_1(tmp_path):
    pictures(tmp_path, *HAM)
    csv = table(tmp_path / "a.csv", "image,mel,nv\nISIC_1,1,0\nISIC_2,1,1\nISIC_3,0,0\n")
    with pytest.raises(DataError, match="line 3; line 4"):
        load(tmp_path, csv, label_column="mel,nv")


def test_a_name_that_may_be_two_pictures_is_refused(tmp_path):
    pictures(tmp_path, "train/1.jpg", "test/1.jpg")
    csv = table(tmp_path / "train.csv", "id,label\n1,a\n")
    with pytest.raises(DataError, match=r"line 2: 1 may be (train|test)/1\.jpg, "):
        load(tmp_path, csv)


def test_a_table_is_found_beside_the_pictures_or_here(tmp_path):
    pictures(tmp_path, *HAM)
    table(tmp_path / "labels.csv", TABLES["HAM10000"])
    assert load(tmp_path, Path("labels.csv"))[0].classes == ("mel", "nv")
    with pytest.raises(NotReadyError, match=r"--labels-csv none\.csv: no such file"):
        load(tmp_path, Path("none.csv"))


def test_a_client_reads_labels_from_its_table_by_the_names_of_the_run(tmp_path):
    pictures(tmp_path, *HAM)
    csv = table(tmp_path / "labels.csv", TABLES["HAM10000"])
    info = DatasetInfo("own", ("nv", "mel", "bcc"), (3, 4, 4))
    reading = {"labels_csv": csv}
    part = open_examples(str(tmp_path), info, "train", Silence(), reading=reading)
    assert part.labels.tolist() == [1, 0, 1, 0]
    other = DatasetInfo("own", ("nv", "bcc"), (3, 4, 4))
    with pytest.raises(DataError, match=r"labels\.csv: no class 'mel'; the classes are: nv, bcc"):
        open_examples(str(tmp_path), other, "train", Silence(), reading=reading)


def test_options_of_a_table_are_for_folders(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(12) % 2)
    info = DatasetInfo("own", ("0", "1"), (1, 4, 4))
    with pytest.raises(UsageError, match="--skip-bad"):
        open_examples(str(tmp_path / "a.npz"), info, "train", Silence(), reading={"skip_bad": True})
    with pytest.raises(UsageError, match="--skip-bad True: it is for imagefolder:PATH"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions(), {"skip_bad": True})
