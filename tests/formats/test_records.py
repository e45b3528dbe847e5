"""A record is what its file says: it is read as it was written, and refused by name."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.errors import BadInputError
from fedcli.formats.metadata import Kind
from fedcli.formats.records import ClientId, Count, FileRecord, Sparse, decode, encode

numbers = st.integers(0, 2**63 - 1)


@dataclass(frozen=True)
class Part(Sparse):
    name: str = field(metadata={"key": "class"})
    share: float | None = None
    flags: tuple[bool, ...] = ()
    off: bool = False
    more: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})


@dataclass(frozen=True)
class Whole(FileRecord):
    count: Count
    kind: Kind
    parts: tuple[Part, ...]
    by_client: dict[ClientId, tuple[Count, ...]]
    source: str | tuple[str, ...] | None = None


parts = st.builds(
    Part,
    st.text(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.booleans()).map(tuple),
    st.booleans(),
    st.dictionaries(st.text(min_size=9), st.lists(numbers)),
)
wholes = st.builds(
    Whole,
    numbers,
    st.sampled_from(Kind),
    st.lists(parts, max_size=3).map(tuple),
    st.dictionaries(st.from_regex("[a-z0-9]{1,9}", fullmatch=True), st.lists(numbers).map(tuple)),
    st.none() | st.text() | st.lists(st.text()).map(tuple),
)


@given(whole=wholes)
def test_a_record_is_read_as_it_was_written(whole: Whole) -> None:
    assert decode(Whole, json.loads(json.dumps(encode(whole)))) == whole


def test_what_is_off_is_left_out_of_a_sparse_record_alone() -> None:
    assert encode(Part("a", 0.0)) == {"class": "a", "share": 0.0}
    assert encode(Whole(0, Kind.UPDATE, (), {}))["source"] is None


def test_unknown_keys_are_passed_over_or_kept() -> None:
    values = {"count": 1, "kind": "update", "parts": [], "by_client": {}, "later": 1}
    assert decode(Whole, values) == Whole(1, Kind.UPDATE, (), {})
    assert decode(Part, {"class": "a", "more": 1, "later": None}).more == {"more": 1, "later": None}


GOOD = {"count": 1, "kind": "update", "parts": [{"class": "a"}], "by_client": {"0": [1]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, r"count: expected 0 or more, found -1$"),
        ({"count": True}, r"count: expected int, found bool$"),
        ({"count": None}, r"count: expected int, found NoneType$"),
        ({"kind": "model"}, r"kind: expected one of global, update, .*, found 'model'$"),
        ({"kind": 3}, r"kind: expected .*found"),
        ({"parts": {}}, r"parts: expected list, found dict$"),
        ({"parts": [{"class": "a"}, {}]}, r"parts\[1\]: has no 'class'$"),
        (
            {"parts": [{"class": "a", "share": "1"}]},
            r"parts\[0\]\.share: expected float, found str",
        ),
        ({"parts": [{"class": "a", "flags": [0]}]}, r"parts\[0\]\.flags\[0\]: expected bool"),
        ({"by_client": {"a b": []}}, r"by_client: expected a client id, found 'a b'$"),
        ({"by_client": {"0": [1, 1.5]}}, r"by_client\.'0'\[1\]: expected int, found float$"),
        ({"source": 3}, r"source: expected str, found int$"),
        ({"source": ["a", 3]}, r"source\[1\]: expected str, found int$"),
        ({"format": 2}, r"format 2; this fedcli reads format 1$"),
    ],
    ids=str,
)
def test_a_refusal_names_file_key_and_what_was_expected_and_found(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "whole.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    with pytest.raises(BadInputError, match=rf"whole\.json: {message}") as refused:
        Whole.read(path)
    assert "delete the file" in (refused.value.hint or "")
    assert Whole.try_read(path) is None


def test_a_file_is_written_with_its_format_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "whole.json"
    assert Whole.read(path) is None
    whole = Whole(1, Kind.UPDATE, (Part("a", 0.5),), {"0": (1, 2)}, ("x",))
    whole.write(path)
    assert json.loads(path.read_text())["format"] == 1
    assert Whole.read(path) == Whole.try_read(path) == whole
