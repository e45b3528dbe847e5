"""What may be the id of a client."""

import json
from pathlib import Path

import pytest
from support.runs import fedcli, run_info

from fedcli.errors import UsageError
from fedcli.formats.client_ids import check_client_id, check_distinct, is_client_id
from fedcli.formats.metadata import Metadata

BAD_IDS = (
    "",
    ".",
    "..",
    "../0",
    "a/b",
    "/a",
    "-1",
    ".a",
    "a\n",
    "a\0",
    "é",
    "٣",
    "x" * 65,
    "a b",
    "a.",
    "a. ",
)


@pytest.mark.parametrize("name", BAD_IDS)
def test_what_is_no_client_id(tmp_path: Path, name: str) -> None:
    assert not is_client_id(name)
    with pytest.raises(UsageError):
        check_client_id(name)
    for metadata in ({"client": name}, {"updates": {name: "f" * 64}}):
        text = json.dumps({"format": 1, "kind": "partial", "run": "f", **metadata})
        with pytest.raises(ValueError, match="expected a client id"):
            Metadata.decode(text)


@pytest.mark.parametrize("name", ["CON", "nul", "Aux", "com1", "LPT9", "con.2", "PRN.a.b"])
def test_a_device_of_windows_is_no_client_id(name: str) -> None:
    assert not is_client_id(name)
    with pytest.raises(UsageError, match="names a device on Windows"):
        check_client_id(name)


@pytest.mark.parametrize("name", ["a", "7", "console", "com10", "a.b", "A_", "a-", "x" * 64])
def test_ordinary_names_are_client_ids(name: str) -> None:
    assert check_client_id(name) == name


@pytest.mark.parametrize(
    "ids", [("Bob", "alice", "bob"), ("a", "a.val"), ("A.TEST", "a"), ("x.Val", "X")]
)
def test_ids_with_one_file_name_are_refused(ids: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="client ids"):
        check_distinct(ids)
    with pytest.raises(UsageError, match="client ids"):
        run_info(ids)
    made = fedcli("init", "--num-classes", 2, "--clients", ",".join(ids), cwd=tmp_path)
    assert made.status == 2
    assert not list(tmp_path.iterdir())


def test_ids_with_names_of_their_own_are_accepted() -> None:
    check_distinct(["a", "b", "a.b", "b.value", "val", "test", "a.val.b"])
