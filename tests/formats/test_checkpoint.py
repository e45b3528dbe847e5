"""A checkpoint is a safetensors file that any tool opens; equal content gives equal bytes."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from support.runs import ROLES, tensors

from fedcli.errors import BadInputError, CheckpointError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, create, digest, save
from fedcli.formats.dtypes import BFLOAT16, DTYPE_NAMES, DTYPES
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import layout_of
from fedcli.formats.training_record import TrainingRecord

METADATA = Metadata(
    Kind.UPDATE,
    "f" * 64,
    round=3,
    client="mercy-hospital",
    num_examples=7,
    base="0" * 64,
    roles=ROLES,
    training=TrainingRecord(lr=0.1, options={"note": "naïve „quotes“ \u2028"}),
    seed=1,
)
FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def loaded(path: Path) -> dict[str, Any]:
    with Checkpoint(path) as checkpoint:
        return checkpoint.tensors()


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        x, y = np.asarray(a[name]), np.asarray(b[name])
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


def bits(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Arrays of any bytes of a dtype, of any shape: (), empty ones, and strided views."""
    shapes = st.one_of(st.just(()), array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    limit = 2 if dtype == np.bool_ else 256

    def build(shape: tuple[int, ...], view: str) -> st.SearchStrategy[Any]:
        size = int(np.prod(shape)) * dtype.itemsize
        raw = arrays(np.uint8, size, elements=st.integers(0, limit - 1))
        whole = raw.map(lambda data: data.view(dtype).reshape(shape))
        return whole.map(VIEWS[view])

    return st.tuples(shapes, st.sampled_from(sorted(VIEWS))).flatmap(lambda a: build(*a))


VIEWS = {
    "plain": lambda values: values,
    "transposed": lambda values: values.T,
    "every other": lambda values: values[..., ::2] if values.ndim else values,
    "backwards": lambda values: values[::-1] if values.ndim else values,
}
any_array = st.sampled_from(list(DTYPES.values())).flatmap(bits)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(names, any_array, max_size=5))
def test_round_trip(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    found = save(path, values, METADATA)
    assert found == digest(path)
    same(loaded(path), values)
    known = {name: array for name, array in values.items() if array.dtype != BFLOAT16}
    if known == values:
        same(safetensors.numpy.load_file(path), values)
    with Checkpoint(path, Kind.UPDATE) as checkpoint:
        assert checkpoint.metadata == METADATA
        assert checkpoint.data_start % 8 == 0
        assert all(i.start % i.dtype.itemsize == 0 for i in checkpoint.layout.values())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    values = tensors(1)
    backwards = dict(reversed(values.items()))
    turned = Metadata(**{**vars(METADATA), "roles": dict(reversed(ROLES.items()))})
    assert save(tmp_path / "a", values, METADATA) == save(tmp_path / "b", backwards, turned)


def test_the_metadata_is_one_canonical_key(tmp_path: Path) -> None:
    save(tmp_path / "a", tensors(1), METADATA)
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        found = file.metadata()
    assert list(found) == ["fedcli"]
    values = json.loads(found["fedcli"])
    compact = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert found["fedcli"] == compact
    assert values["roles"] == {"bn.running_mean": "buffer", "bn.num_batches_tracked": "counter"}
    assert "updates" not in values


def test_what_torch_reads_and_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    values = {
        "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        "whole": torch.tensor(2**62 + 1),
        "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "none": torch.zeros(0, 2),
    }
    save_file(values, tmp_path / "theirs", {"fedcli": METADATA.encode()})
    ours = loaded(tmp_path / "theirs")
    assert ours["half"].dtype == BFLOAT16
    save(tmp_path / "ours", ours, METADATA)
    again = load_file(tmp_path / "ours")
    assert again.keys() == values.keys()
    assert all(torch.equal(again[name], values[name]) for name in values)
    assert all(again[name].dtype == values[name].dtype for name in values)


def test_pieces_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    values = tensors(2)
    layout = layout_of({name: (v.dtype, v.shape) for name, v in values.items()})
    unknown = Metadata(**{**vars(METADATA), "base": "?" * 64})
    with create(tmp_path / "pieces", layout, unknown) as writer:
        for name in reversed(layout):
            writer.write(values[name], layout[name].start)
        with pytest.raises(ValueError, match="changed its length"):
            writer.finish(Metadata(**{**vars(METADATA), "base": "?"}))
        found = writer.finish(METADATA)
    assert found == digest(tmp_path / "pieces") == save(tmp_path / "whole", values, METADATA)


def test_metadata_of_a_later_version_is_passed_over_and_of_a_later_format_refused() -> None:
    values = json.loads(METADATA.encode())
    assert Metadata.decode(json.dumps({**values, "colour": "red"})) == METADATA
    with pytest.raises(ValueError, match="format 3"):
        Metadata.decode(json.dumps({**values, "format": 3}))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"format": None},
        {"format": True},
        {"kind": "model"},
        {"kind": ["update"]},
        {"run": None},
        {"round": 1.0},
        {"round": True},
        {"num_examples": "7"},
        {"roles": ["buffer"]},
        {"roles": {"a": "weight"}},
        {"roles": {"a": {}}},
        {"updates": []},
    ],
)
def test_metadata_of_wrong_types(change: dict[str, Any]) -> None:
    values = {**json.loads(METADATA.encode()), **change}
    with pytest.raises(ValueError, match=r"format|[Kk]ind|run|round|examples|roles|Role|updates"):
        Metadata.decode(json.dumps(values))


# --- hostile files -----------------------------------------------------------------------------


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return (size % 2**64).to_bytes(8, "little") + text + data


def entry(start: int, stop: int, shape: Any = None, dtype: Any = "U8") -> dict[str, Any]:
    shape = [stop - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


OURS = {"__metadata__": {"fedcli": METADATA.encode()}}
HOSTILE = {
    "empty file": b"",
    "shorter than a length": b"\x02\0\0",
    "length without header": file_of(b"", length=2),
    "huge length": file_of(OURS, length=2**63),
    "length of 4 GB": file_of(OURS, length=2**32),
    "zero length": file_of(b""),
    "a pickle": b"\x80\x04\x95" + b"x" * 100,
    "a zip": b"PK\x03\x04" + b"\0" * 100,
    "not JSON": file_of(b"{" * 50),
    "not UTF-8": file_of(b'{"\xff\xfe": 1}'),
    "not an object": file_of([1, 2]),
    "deep": file_of(b"[" * 200_000),
    "deep object": file_of(b'{"a":' * 100_000),
    "a huge number": file_of(b'{"a": ' + b"9" * 10_000 + b"}"),
    "overlap": file_of({**OURS, "a": entry(0, 4), "b": entry(2, 6)}, b"\0" * 6),
    "same bytes twice": file_of({**OURS, "a": entry(0, 4), "b": entry(0, 4)}, b"\0" * 4),
    "gap": file_of({**OURS, "a": entry(0, 4), "b": entry(6, 8)}, b"\0" * 8),
    "late start": file_of({**OURS, "a": entry(2, 4)}, b"\0" * 4),
    "negative offset": file_of({**OURS, "a": entry(-4, 0)}, b"\0" * 4),
    "backwards": file_of({**OURS, "a": entry(4, 0, [-4])}, b"\0" * 4),
    "negative shape": file_of({**OURS, "a": entry(0, 4, [-2, -2])}, b"\0" * 4),
    "shape of floats": file_of({**OURS, "a": entry(0, 4, [4.0])}, b"\0" * 4),
    "shape of truths": file_of({**OURS, "a": entry(0, 1, [True])}, b"\0"),
    "shape is an object": file_of({**OURS, "a": entry(0, 1, {})}, b"\0"),
    "shape is text": file_of({**OURS, "a": entry(0, 1, "")}, b"\0"),
    "offsets are an object": file_of(
        {**OURS, "a": {**entry(0, 0), "data_offsets": {"0": 0, "1": 0}}}
    ),
    "half a surrogate pair": file_of({**OURS, "\ud800": entry(0, 0)}),
    "shape is not a list": file_of({**OURS, "a": entry(0, 4, 4)}, b"\0" * 4),
    "offsets are floats": file_of(
        {**OURS, "a": {**entry(0, 4), "data_offsets": [0, 4.0]}}, b"\0" * 4
    ),
    "three offsets": file_of({**OURS, "a": {**entry(0, 4), "data_offsets": [0, 2, 4]}}, b"\0" * 4),
    "too few bytes for the shape": file_of({**OURS, "a": entry(0, 4, [5])}, b"\0" * 4),
    "an enormous shape": file_of({**OURS, "a": entry(0, 4, [2**62, 2**62])}, b"\0" * 4),
    "unknown dtype": file_of({**OURS, "a": entry(0, 4, [4], "F8_E4M3")}, b"\0" * 4),
    "dtype is a list": file_of({**OURS, "a": entry(0, 4, [4], ["U8"])}, b"\0" * 4),
    "entry is a number": file_of({**OURS, "a": 4}),
    "entry is empty": file_of({**OURS, "a": {}}),
    "beyond the end": file_of({**OURS, "a": entry(0, 400)}, b"\0" * 4),
    "bytes left over": file_of({**OURS, "a": entry(0, 4)}, b"\0" * 5),
    "no metadata": file_of({"a": entry(0, 4)}, b"\0" * 4),
    "metadata of another tool": file_of({"__metadata__": {"format": "pt"}}),
    "metadata is a list": file_of({"__metadata__": ["fedcli"]}),
    "metadata is not text": file_of({"__metadata__": {"fedcli": {"format": 1}}}),
    "metadata is not JSON": file_of({"__metadata__": {"fedcli": "hello"}}),
    "metadata is deep": file_of({"__metadata__": {"fedcli": "[" * 100_000}}),
    "a name twice": file_of(b'{"a":' + json.dumps(entry(0, 0)).encode() + b',"a":1}'),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    before = open_files()
    with pytest.raises(CheckpointError) as raised:
        Checkpoint(path)
    assert str(path) in raised.value.message
    assert open_files() == before


def open_files() -> int:
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.exists() else 0


def test_a_header_of_more_than_16_mb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    with path.open("wb") as file:
        file.write((20_000_000).to_bytes(8, "little"))
        file.truncate(8 + 20_000_000)
    with pytest.raises(CheckpointError, match="20000000 bytes, expected at most 16000000"):
        Checkpoint(path)


@pytest.mark.parametrize("shape", [[0, 2**62, 2], [1] * 65])
def test_a_shape_that_numpy_cannot_hold(tmp_path: Path, shape: list[int]) -> None:
    path = tmp_path / "model.safetensors"
    size = 0 if 0 in shape else 1
    path.write_bytes(file_of({**OURS, "a": entry(0, size, shape)}, b"\0" * size))
    with pytest.raises(CheckpointError, match="tensor 'a'"), Checkpoint(path) as checkpoint:
        checkpoint.tensor("a")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2000), value=st.integers(0, 255))
def test_any_changed_byte_is_an_error_or_a_value(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "model.safetensors"
    save(path, tensors(1), METADATA)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(CheckpointError):
        loaded(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_not_a_file(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model.safetensors")
    with pytest.raises(BadInputError, match="expected a file, found something else"):
        Checkpoint(tmp_path / "model.safetensors")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no such file"):
        Checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(NotReadyError, match="no such file"):
        digest(tmp_path / "model.safetensors")
    with pytest.raises(BadInputError, match="expected a file"):
        digest(tmp_path)


def test_another_kind(tmp_path: Path) -> None:
    save(tmp_path / "a", {}, METADATA)
    with pytest.raises(CheckpointError, match="kind global, found update"):
        Checkpoint(tmp_path / "a", Kind.GLOBAL)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a", tensors(1), METADATA)
    with Checkpoint(tmp_path / "a") as checkpoint:
        os.truncate(tmp_path / "a", checkpoint.data_start + 8)
        with pytest.raises(BadInputError, match="became shorter"):
            checkpoint.tensors()


def test_every_dtype_has_its_name() -> None:
    assert {name: DTYPES[name] for name in DTYPE_NAMES.values()} == DTYPES
    for name, kind in FLOATS.items():
        assert DTYPES[name] == kind
