"""Lists as they are typed: numbers of clients, names with commas, and files of names."""

from pathlib import Path

import pytest
from PIL import Image
from support.runs import fedcli

from fedcli.cli.options.lists import comma_list, names_with_commas, one_a_time
from fedcli.cli.options.parsing import parse_clients, parse_members
from fedcli.datasets.imagefolder import table_of
from fedcli.errors import NotReadyError, StorageError, UsageError
from fedcli.run import Run

NAMES = ("benign", "Melanoma, NOS", "naïve", '"quoted"')


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """A list as an editor on Windows saves it, with a line that is empty."""
    path = tmp_path / "names.txt"
    path.write_bytes("\r\n".join(["\ufeff" + NAMES[0], "", *NAMES[1:], "  "]).encode())
    return f"@{path}"


def test_a_file_has_one_item_per_line(listed: str) -> None:
    assert comma_list(listed) == names_with_commas(listed) == NAMES
    assert one_a_time(["first", listed]) == ("first", *NAMES)


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, error in {
        "none": NotReadyError, "empty": UsageError, "binary": UsageError, ".": StorageError,
    }.items():  # fmt: skip
        with pytest.raises(error) as caught:
            comma_list(f"@{tmp_path / name}")
        assert caught.value.path == tmp_path / name


@pytest.mark.parametrize(
    ("typed", "clients"),
    [
        (None, ()),
        ("5", ("0", "1", "2", "3", "4")),
        ("st-mary,7", ("st-mary", "7")),
        ("st-mary", ("st-mary",)),
    ],
)
def test_clients_are_a_number_or_names(typed: str | None, clients: tuple[str, ...]) -> None:
    assert parse_clients(typed) == clients


def test_members_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "members").write_text("a=key1\nb=key2 key3\n", encoding="utf-8")
    members = parse_members([f"@{tmp_path / 'members'}", "c=key4"])
    assert members == {"a": "key1", "b": "key2 key3", "c": "key4"}


@pytest.mark.parametrize("typed", ["0", "1000001", "9" * 30])
def test_a_number_of_clients_has_bounds(typed: str) -> None:
    with pytest.raises(UsageError, match="--clients: expected 1"):
        parse_clients(typed)


def test_lists_from_files_reach_every_command_that_takes_lists(tmp_path: Path) -> None:
    for name, lines in {
        "classes": ["benign", "Melanoma, NOS", "nevus"],
        "frozen": ["conv1", "layer1"],
        "alphas": ["0.1", "0.5"],
        "seeds": ["3", "4"],
        "clients": ["0", "7"],
        "pairs": ["disc", "ring"],
    }.items():
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    made = fedcli(
        *("init", "--classes", "@classes", "--num-clients", 3, "--run", "study"),
        *("--freeze", "@frozen", "--model", "ResNet18", "--image-size", 32),
        cwd=tmp_path,
    )
    assert made.status == 0, made.err
    info = Run.open(tmp_path / "study").info
    assert info.dataset.classes == ("benign", "Melanoma, NOS", "nevus")
    assert info.clients == ("0", "1", "2")
    assert info.plan.train.freeze == ("conv1", "layer1")
    cases = fedcli(
        *("sweep", "--alpha", "@alphas", "--seed", "@seeds", "--rounds", 1, "--print-array"),
        cwd=tmp_path,
    )
    assert len(cases.out.splitlines()) == 4, cases.err
    cut = fedcli(
        *("partition", "--limit", 40, "--model", "linear", "--labels", "@pairs", "--labels", "2,3"),
        cwd=tmp_path,
    )
    assert cut.status == 0, cut.err
    for line in (
        "aggregate --exclude @clients",
        "aggregate @clients",
        "train-client --id @clients",
    ):
        refused = fedcli(*line.split(), cwd=tmp_path)
        assert "this run has no client '7'; it has: 0, 1" in refused.err


def test_remotes_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "remotes").write_text("from-a.zip\nfrom-b.zip\n", encoding="utf-8")
    refused = fedcli("pull", "@remotes", cwd=tmp_path)
    assert refused.status == 3
    assert "from-a.zip" in refused.err


@pytest.mark.parametrize("typed", ["@columns", '"naevus, benign",melanoma'])
def test_columns_of_labels_are_a_list_that_keeps_commas_in_names(
    tmp_path: Path, typed: str
) -> None:
    (tmp_path / "columns").write_text("naevus, benign\nmelanoma\n", encoding="utf-8")
    rows = ['image,"naevus, benign",melanoma,other', "1,1,0,7", "2,0,1,7", "3,1,0,7", "4,0,1,7"]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    for name in "1234":
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / f"{name}.png")
    data = ("--dataset", "imagefolder:photos", "--labels-csv", "labels.csv", "--label-column")
    shape = ("--model", "linear", "--clients", 1, "--test-fraction", 0.5)
    made = fedcli("partition", *data, typed, *shape, cwd=tmp_path)
    assert made.status == 0, made.err
    assert Run.open(tmp_path / "fedrun").info.dataset.classes == ("melanoma", "naevus, benign")
    cases = fedcli("sweep", *data, typed, *shape, "--rounds", 1, "--print-array", cwd=tmp_path)
    assert len(cases.out.splitlines()) == 1, "columns are no alternatives"


def test_a_list_of_columns_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a list of columns"):
        table_of(tmp_path / "labels.csv", label_column='"naevus, benign')
