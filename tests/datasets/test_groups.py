"""Groups: the places that examples really come from, by folder, by CSV file and by array."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedcli.datasets import DataOptions, Dataset, load_dataset
from fedcli.datasets.base import Part, split_off_test
from fedcli.errors import DataError, NotReadyError, UsageError

# Each group has a colour of its own, so that a picture tells where it comes from.
COLOURS = {"north": 10, "south": 20, "west": 30}


def picture(path: Path, group: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (COLOURS[group], 0, 0)).save(path)


def nested(root: Path, groups=("north", "south"), classes=("bee", "ant"), count=2) -> Path:
    for group in groups:
        for name in classes:
            for number in range(count):
                picture(root / group / name / f"{number}.png", group)
    return root


def of_colours(part: Part) -> list[str]:
    """The groups of the examples, as their pictures say."""
    names = {colour: name for name, colour in COLOURS.items()}
    return [names[int(one[0, 0, 0])] for one in part.read(np.arange(len(part.labels)))]


def of_numbers(data: Dataset, part: Part) -> list[str]:
    assert part.groups is not None
    return [data.group_names[number] for number in part.groups]


def load(root: Path, group: str | None, **options: float) -> Dataset:
    own = {} if group is None else {"group": group}
    return load_dataset(f"imagefolder:{root}", DataOptions(**options), own)


# folders of folders


def test_folders_of_class_folders_are_groups(tmp_path):
    nested(tmp_path / "train")
    nested(tmp_path / "test", groups=("south", "north", "west"), count=1)
    data = load(tmp_path, "folder")
    assert (data.classes, data.group_names) == (("ant", "bee"), ("north", "south"))
    assert of_numbers(data, data.train) == of_colours(data.train)
    assert data.test.groups.tolist() == [0, 0, 1, 1, -1, -1]
    assert len(data.train.labels) == 8


def test_a_common_test_part_needs_no_groups(tmp_path):
    nested(tmp_path / "train")
    for name in ("ant", "bee"):
        picture(tmp_path / "test" / name / "0.png", "west")
    data = load(tmp_path, "folder")
    assert data.test.groups is None
    assert of_numbers(data, data.train) == of_colours(data.train)


def test_a_group_need_not_have_every_class(tmp_path):
    nested(tmp_path)
    picture(tmp_path / "west" / "wasp" / "0.png", "west")
    picture(tmp_path / "west" / "wasp" / "1.png", "west")
    data = load(tmp_path, "folder")
    assert data.classes == ("ant", "bee", "wasp")
    wasps = data.train.subset(np.flatnonzero(data.train.labels == 2))
    assert set(of_numbers(data, wasps)) == {"west"}


def test_groups_stay_with_their_examples_through_the_split_and_subsets(tmp_path):
    data = load(nested(tmp_path, count=6), "folder", test_fraction=0.3)
    for part in (data.train, data.test, data.train.subset(np.array([5, 0, 3]))):
        assert of_numbers(data, part) == of_colours(part)
    seen = np.stack([data.test.labels, data.test.groups])
    assert np.unique(seen, axis=1).shape[1] == 4  # some of each class of each group


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=60))
def test_the_test_part_has_its_share_of_each_class_of_each_group(pairs):
    labels, groups = np.array(pairs, np.int64).T
    part = Part(labels, lambda indices: indices, groups)
    train, test, _ = split_off_test(part, DataOptions(test_fraction=0.25))
    assert sorted([*train.read(np.arange(len(train.labels))),
                   *test.read(np.arange(len(test.labels)))]) == list(range(len(pairs)))  # fmt: skip
    tested = list(zip(test.labels.tolist(), test.groups.tolist(), strict=True))
    for label, group in set(pairs):
        share = np.mean(groups[labels == label] == group) * np.sum(test.labels == label)
        assert abs(tested.count((label, group)) - share) < 1


def test_numbered_groups_are_in_order_of_their_value(tmp_path):
    for number in ("10", "9", "2"):
        picture(tmp_path / number / "ant" / "0.png", "north")
        picture(tmp_path / number / "bee" / "1.png", "north")
    assert load(tmp_path, "folder").group_names == ("2", "9", "10")


def test_class_folders_alone_are_not_taken_for_groups(tmp_path):
    picture(tmp_path / "ant" / "0.png", "north")
    with pytest.raises(DataError, match="ant: expected one folder for each class") as caught:
        load(tmp_path, "folder")
    assert "--group folder" in caught.value.hint


@pytest.mark.parametrize("group", ["folder", "site"])
def test_one_group_alone_is_refused(tmp_path, group):
    nested(tmp_path, groups=("north",))
    table(tmp_path, [(f"north/{c}/{n}.png", "x") for c in ("ant", "bee") for n in range(2)])
    with pytest.raises(DataError, match=r"at least two groups, found one: '(north|x)'"):
        load(tmp_path, group)


# a column of a CSV file


def plain(root: Path, half: str = "") -> list[tuple[str, str]]:
    """Write class folders, and return each picture with the group that its colour says."""
    rows = []
    for number in range(6):
        group = ("north", "south")[number % 2]
        name = f"{('ant', 'bee')[number // 3]}/{number}.png"
        picture(root / half / name, group)
        rows.append((f"{half}/{name}" if half else name, group))
    return rows


def table(root: Path, rows, header=("file", "site"), name="metadata.csv", separator=",") -> Path:
    lines = [separator.join(row) for row in (header, *rows)]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


@pytest.mark.parametrize("column", ["file", "path", "filename", "file_name", "File"])
def test_a_column_gives_the_groups(tmp_path, column):
    rows = [(name, "anything", group) for name, group in plain(tmp_path)]
    table(tmp_path, rows[::-1], header=(column, "age", "site"))
    data = load(tmp_path, "site")
    assert data.group_names == ("north", "south")
    assert of_numbers(data, data.train) == of_colours(data.train)
    assert of_numbers(data, data.test) == of_colours(data.test)


def test_names_may_start_from_the_folder_or_from_train(tmp_path):
    rows = plain(tmp_path, "train")
    plain(tmp_path, "test")
    rows[:3] = [(name.removeprefix("train/"), group) for name, group in rows[:3]]
    table(tmp_path, rows, name="sites.csv")
    data = load(tmp_path, "site")
    assert of_numbers(data, data.train) == of_colours(data.train)
    assert data.test.groups is None


def test_rows_may_tell_of_the_test_part_too(tmp_path):
    table(tmp_path, [*plain(tmp_path, "train"), *plain(tmp_path, "test")])
    data = load(tmp_path, "site")
    assert of_numbers(data, data.test) == of_colours(data.test)


def test_what_spreadsheets_write_is_read(tmp_path):
    rows = [(f".\\{name}".replace("/", "\\"), f" {group} ") for name, group in plain(tmp_path)]
    path = table(tmp_path, [*rows, ("", "")], separator=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    data = load(tmp_path, "site")
    assert of_numbers(data, data.train) == of_colours(data.train)


def test_a_row_of_a_picture_that_is_not_used_may_stand(tmp_path):
    rows = [*plain(tmp_path, "train"), *plain(tmp_path, "val")]
    plain(tmp_path, "test")
    table(tmp_path, rows)
    assert load(tmp_path, "site").group_names == ("north", "south")


WRONG = {
    "no file": (None, NotReadyError, "metadata.csv"),
    "no column": (lambda rows: (rows, ("file", "ward")), UsageError, "no column .*file, ward"),
    "two columns": (
        lambda rows: ([(*row, "x") for row in rows], ("file", "site", "site")),
        UsageError,
        "two columns",
    ),
    "no file column": (lambda rows: (rows, ("x", "site")), DataError, "line 1: .*names the pic"),
    "short row": (lambda rows: ([*rows, ("ant/0.png",)], None), DataError, "line 8: .* found 1"),
    "no group": (lambda rows: ([*rows[1:], (rows[0][0], " ")], None), DataError, "line 7: .*group"),
    "no picture": (lambda rows: ([*rows, ("", "x")], None), DataError, "line 8: .*a picture"),
    "missing row": (lambda rows: (rows[1:], None), DataError, "no row for ant/0.png$"),
    "missing rows": (lambda rows: (rows[3:], None), DataError, "no row for ant/0.png and 2 more"),
    "unknown": (lambda rows: ([*rows, ("ant/7.png", "x")], None), DataError, r"line 8: ant.7\.png"),
    "twice": (
        lambda rows: ([*rows, ("./ant/0.png", "north")], None),
        DataError,
        r"line 8: repeats \./ant/0\.png of line 2",
    ),
    "a quote": (lambda rows: ([*rows, ('"ant', "x")], None), DataError, "line 8: not CSV"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_does_not_fit_is_named_with_its_line(tmp_path, name):
    change, error, message = WRONG[name]
    rows = plain(tmp_path)
    if change is not None:
        changed, header = change(rows)
        table(tmp_path, changed, header=header or ("file", "site"))
    with pytest.raises(error, match=message) as caught:
        load(tmp_path, "site")
    assert str(tmp_path if change is None else tmp_path / "metadata.csv") in caught.value.message


def test_several_tables_are_not_chosen_among(tmp_path):
    rows = plain(tmp_path)
    for name in ("a.csv", "b.csv"):
        table(tmp_path, rows, name=name)
    with pytest.raises(DataError, match=r"found a\.csv, b\.csv"):
        load(tmp_path, "site")
    table(tmp_path, rows)
    assert load(tmp_path, "site").group_names == ("north", "south")


def test_a_table_that_is_no_text_is_named(tmp_path):
    plain(tmp_path)
    (tmp_path / "metadata.csv").write_bytes("file,site\nänt/0.png,x\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"metadata\.csv: not a CSV file in UTF-8"):
        load(tmp_path, "site")


def test_the_identity_of_a_data_set_has_its_groups(tmp_path):
    rows = plain(tmp_path)
    table(tmp_path, rows)
    first, alone = load(tmp_path, "site").identity, load(tmp_path, None).identity
    assert load(tmp_path, "site").identity == first
    assert first != alone
    table(tmp_path, [(name, {"north": "west"}.get(group, group)) for name, group in rows])
    assert load(tmp_path, "site").identity != first
    table(tmp_path, [(rows[0][0], "south"), *rows[1:]])
    assert load(tmp_path, "site").identity != first


# an array


X = np.zeros((8, 4, 4), np.uint8)
Y = np.arange(8) % 2


@pytest.mark.parametrize(
    ("values", "names", "numbers"),
    [
        (list("bbaabbaa"), ("a", "b"), [1, 1, 0, 0, 1, 1, 0, 0]),
        ([[10], [9]] * 4, ("9", "10"), [1, 0] * 4),
    ],
)
def test_an_array_gives_the_groups(tmp_path, values, names, numbers):
    path = tmp_path / "a.npz"
    np.savez(
        path, x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3], group=values,
        group_test=np.array(["c", *names], str),
    )  # fmt: skip
    data = load_dataset(f"npz:{path}", DataOptions())
    assert data.group_names == names
    assert data.train.groups.tolist() == numbers
    assert data.test.groups.tolist() == [-1, 0, 1]


def test_an_array_of_data_without_a_test_part_is_split_with_it(tmp_path):
    x = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2, group=np.arange(20) // 5)
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}", DataOptions())
    for part in (data.train, data.test):
        values = part.read(np.arange(len(part.labels)))[:, 0, 0, 0]
        assert part.groups.tolist() == (values // 5).tolist()
    assert data.group_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"group": np.zeros(7, int)}, "8 examples, but groups of 7"),
        ({"group": np.zeros(8)}, "group: .*float64"),
        ({"group": np.zeros((8, 2), int)}, "group: .*int64"),
        ({"group": np.array([""] + ["a"] * 7)}, "group: the group of example 0 is empty"),
        ({"group": Y, "group_train": Y}, "group and group_train"),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path, content, message):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X, y_test=Y, **content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(f"npz:{path}", DataOptions())
    assert str(path) in caught.value.message


@pytest.mark.parametrize("spec", ["synthetic", "npz:a.npz", "cifar10"])
def test_only_image_folders_are_grouped_by_name(spec):
    with pytest.raises(UsageError, match="--group site: it is for imagefolder:PATH"):
        load_dataset(spec, DataOptions(), {"group": "site"})


def test_data_without_groups_has_none(tmp_path):
    plain(tmp_path)
    for spec in ("synthetic", f"imagefolder:{tmp_path}"):
        data = load_dataset(spec, DataOptions())
        assert (data.group_names, data.train.groups, data.test.groups) == ((), None, None)
