"""JSON and files that strangers put there are read within limits, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import tensors

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.storage.atomic import read_json
from fedcli.storage.strict_json import parse_json
from fedcli.storage.untrusted import InputFile

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "not a JSON number"),
        ("[1e400]", "too large"),
        (f"[{10**400}]", "more than 64 bits"),
        (f"[{2**63}]", "more than 64 bits"),
        ("[" * 101 + "]" * 101, "levels deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested"),
        ("[" * 100_000, "nested"),
        ('["\\ud800"]', "half a surrogate pair"),
        ('{"\\udfff": 1}', "half a surrogate pair"),
        (b'["\xed\xa0\x80"]', "not UTF-8: byte 2"),
        (b"\xff\xfe[\x001\x00]\x00", "not UTF-8"),
        ('["\x00"]', "not JSON"),
        ("[1] [2]", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_json_that_we_read(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_what_is_at_the_limits_is_read() -> None:
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json(f"[{2**63 - 1}, {-(2**63)}, 1e308, 5e-324, -0.0]")[1] == -(2**63)
    assert parse_json('["\\ud83d\\ude00", "\U0001f600"]') == ["\U0001f600"] * 2


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.text()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_what_python_reads(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_a_json_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="1099511627776 bytes, expected at most"):
        read_json(tmp_path / "a")


def test_a_link_is_followed_only_to_what_a_person_named(tmp_path: Path) -> None:
    partial = Metadata(Kind.PARTIAL, "f", round=1)
    sha256 = save(tmp_path / "there", {}, partial)
    (tmp_path / "here").symlink_to("there")
    with Checkpoint(tmp_path / "here", Kind.PARTIAL) as found:
        assert found.digest() == sha256 == digest(tmp_path / "here")
    with pytest.raises(BadInputError, match="here: is a symbolic link"):
        Checkpoint(tmp_path / "here")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInputError, match="loop: is a symbolic link"):
        digest(tmp_path / "loop")


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(tmp_path: Path) -> None:
    sha256 = save(tmp_path / "a", tensors(1), Metadata(Kind.UPDATE, "f"))
    with Checkpoint(tmp_path / "a") as checkpoint:
        save(tmp_path / "b", tensors(2), Metadata(Kind.UPDATE, "f"))
        (tmp_path / "b").rename(tmp_path / "a")
        assert checkpoint.digest() == sha256
        assert checkpoint.tensor("fc.bias").tobytes() == tensors(1)["fc.bias"].tobytes()


def test_what_is_not_there_and_what_lies_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path / "file" / "below"):
        with pytest.raises(NotReadyError, match="no such file"):
            InputFile(path)
        with pytest.raises(FileNotFoundError):
            read_json(path)
