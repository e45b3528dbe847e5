"""The order of client ids, in lists and in files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.formats.client_ids import client_order
from fedcli.formats.partition import PartitionFile


@pytest.mark.parametrize(
    "ordered",
    [
        ("0", "1", "2", "10", "11"),
        ("site1", "site2", "site10"),
        ("2", "10", "a1-b2", "a1-b10", "a2", "mercy"),
        ("01", "1", "2"),
        ("9" * 4000, "1" + "0" * 5000),
    ],
)
def test_ids_are_in_natural_order(ordered):
    assert client_order(reversed(ordered)) == list(ordered)


@given(st.lists(st.text(alphabet="019ab-", min_size=1), unique=True))
def test_the_order_does_not_depend_on_the_order_before(ids):
    assert client_order(ids) == client_order(sorted(ids)) == client_order(reversed(ids))


def test_a_file_with_keys_in_the_order_of_text_is_read_in_natural_order(tmp_path: Path):
    ids = [str(number) for number in range(12)]
    written = PartitionFile(
        run="r", seed=0, scheme="iid", parameters={}, classes=("a",), test_label_counts=(1,),
        label_counts=dict.fromkeys(ids, (1,)), shards={},
    )  # fmt: skip
    written.write(tmp_path / "partition.json")
    assert list(json.loads((tmp_path / "partition.json").read_text())["label_counts"]) != ids
    read = PartitionFile.read(tmp_path / "partition.json")
    assert read is not None
    assert list(read.label_counts) == ids
