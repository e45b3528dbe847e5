"""Codecs against plain definitions, value by value."""

from typing import Any

import numpy as np
import pytest
from support.codec_oracle import reference, round_tensors

from fedcli.codecs import CHUNK, CODECS, Codec, Encoded, Vector, parse_codec
from fedcli.codecs.feedback import decode_all, residual
from fedcli.codecs.sizes import expected_size
from fedcli.errors import UsageError

SPECS = (
    "float16",
    "int8",
    "sign",
    *(
        "round=0.07",
        "round=0.2",
        "topk=0.03",
        "topk=0.1,float16",
        "randk=0.05",
        "randk=0.2,float16",
    ),
)
SIZES = (70_000, 1, 0, 64_999, 300)


def codec(spec: str) -> Codec:
    found = parse_codec(spec, "--encode")
    assert found is not None
    return found


def heavy(size: int, seed: int = 1) -> Any:
    """Steps as training makes them: most are small, a few are large."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * rng.exponential(size=size) ** 2).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS)
def test_decodes_to_what_the_definition_says_bit_for_bit(spec):
    vector, p = Vector(SIZES, 7), heavy(sum(SIZES))
    encoded = codec(spec).encode(p, vector)
    found = decode_all(codec(spec), encoded, vector)
    expected = reference(spec, p, vector)
    assert found.tobytes() == expected.tobytes()
    assert codec(spec).encode(p, vector).data.tobytes() == encoded.data.tobytes()


@pytest.mark.parametrize("share", ["0.07", "0.2", "0.9", "0.00001"])
def test_the_bytes_of_round_are_those_of_its_definition(share):
    vector, p = Vector(SIZES), heavy(sum(SIZES))
    if share == "0.9":
        p[np.abs(p) < 0.1] = 0.1  # else it is too uneven for so large a share
    found, expected = codec(f"round={share}").encode(p, vector), round_tensors(p, share)
    assert found.table.tolist() == expected["table"].tolist()
    assert found.data.tobytes() == expected["data"].tobytes()
    assert found.scales.tobytes() == expected["scales"].tobytes()


def test_a_residual_is_the_share_of_what_was_lost():
    p = np.array([1, 1 + 2**-23, -3e-45, 0.1], np.float32)
    c = np.array([0, 1, 0, -0.2], np.float32)
    assert residual(p, c, 1.0).tolist() == [1, 2**-23, p[2], np.float32(float(p[3]) - float(c[3]))]
    assert residual(p, c, 0.3)[1] == np.float32(0.3 * 2**-23)


CASES = {
    "zero": np.zeros(500, np.float32),
    "equal": np.full(500, 0.25, np.float32),
    "minus zero": np.full(500, -0.0, np.float32),
    "denormal": (np.arange(500) % 7 - 3).astype(np.float32) * np.float32(1e-45),
    "mostly zero": np.where(np.arange(500) % 9 == 4, np.linspace(-1, 3, 500), 0).astype(np.float32),
    "huge": np.where(np.arange(500) == 7, 6e4, 2).astype(np.float32),
    "one": np.eye(1, 500, 200, dtype=np.float32)[0],
    "one value": np.array([-3.5], np.float32),
    "two chunks": heavy(CHUNK + 3),
}


@pytest.mark.parametrize("spec", [*SPECS, "round=1", "topk=1", "topk=0.001", "round=0.001"])
@pytest.mark.parametrize("case", CASES)
def test_odd_vectors(spec, case):
    p = CASES[case]
    vector = Vector((len(p),), 3)
    if spec == "round=1" and case == "two chunks":
        with pytest.raises(ValueError, match="times the smallest"):
            codec(spec).encode(p, vector)
        return
    found = decode_all(codec(spec), codec(spec).encode(p, vector), vector)
    assert np.array_equal(found, reference(spec, p, vector))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_nan_or_infinite(spec, bad):
    p = heavy(100)
    p[40] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        codec(spec).encode(p, Vector((100,), 1))


def test_a_level_that_is_too_high_is_refused_and_so_is_a_float_that_overflows():
    p = np.ones(1000, np.float32)
    p[3] = 1e6
    with pytest.raises(ValueError, match="32767 times the smallest"):
        codec("round=0.1").encode(p, Vector((1000,), 1))
    with pytest.raises(ValueError, match="too large to be rounded"):
        codec("round=0.5").encode(np.full(4, 3e38, np.float32), Vector((4,), 1))
    for spec in ("float16", "topk=0.1,float16"):
        with pytest.raises(ValueError, match="does not fit float16"):
            codec(spec).encode(p, Vector((1000,), 1))


def test_fewer_steps_than_a_share_of_them_are_all_sent():
    """As with adapters, half of which do not move at first: none of the others may be lost."""
    p = CASES["mostly zero"]
    assert 0 < np.count_nonzero(p) < 250
    vector = Vector((500,), 1)
    found = decode_all(codec("round=0.5"), codec("round=0.5").encode(p, vector), vector)
    assert (np.sign(found) == np.sign(p)).all()


def test_encoding_what_was_decoded_changes_nothing():
    vector, p = Vector((5000,), 1), heavy(5000)
    once = decode_all(codec("round=0.1"), codec("round=0.1").encode(p, vector), vector)
    twice = decode_all(codec("round=0.1"), codec("round=0.1").encode(once, vector), vector)
    assert np.count_nonzero(once) == np.count_nonzero(twice) == 500


def test_round_is_small():
    vector, p = Vector((300_000,), 1), heavy(300_000)
    for share, most in ((0.01, 0.11), (0.07, 0.6), (0.2, 1.4)):
        encoded = codec(f"round={share}").encode(p, vector)
        assert 8 * len(encoded.data) / vector.size < most


@pytest.mark.parametrize("spec", SPECS)
def test_a_changed_bit_is_found_or_changes_a_value_within_bounds(spec):
    """No byte of a stranger's file makes decoding fail other than by ``ValueError``."""
    vector, p = Vector((3000,), 5), heavy(3000)
    one, rng = codec(spec), np.random.default_rng(3)
    encoded = one.encode(p, vector)
    for _ in range(300):
        table, data = encoded.table.copy(), encoded.data.copy()
        scales = encoded.scales.copy()
        parts = [x for x in (table, data, scales) if x.size]
        raw = parts[rng.integers(len(parts))].view(np.uint8).reshape(-1)
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        changed = Encoded(table, data, scales)
        try:
            if int(one.lengths(table, vector).sum()) != len(data):
                continue
            found = decode_all(one, changed, vector)
        except ValueError:
            continue
        assert found.shape == p.shape
        assert np.isfinite(found).all()


def test_padding_that_is_not_zero_is_refused():
    vector, one = Vector((13,), 1), codec("sign")
    encoded = one.encode(heavy(13), vector)
    encoded.data[-1] |= 1
    with pytest.raises(ValueError, match="padding"):
        decode_all(one, encoded, vector)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("zip", "unknown encoding 'zip'; known: float32, float16, int8, round=SHARE"),
        ("round", "expected round=SHARE, found 'round'"),
        ("round=0", "expected a share above 0, at most 1, found '0'"),
        ("round=nan", "expected a share above 0, at most 1, found 'nan'"),
        ("topk=0.1,int8", "expected float32 or float16, found 'int8'"),
        ("topk=0.1,float16,x", r"expected topk=SHARE\[,float16\]"),
        ("sign=1", "expected sign, found 'sign=1'"),
    ],
)
def test_a_text_that_names_no_encoding_is_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        parse_codec(spec, "--encode")


def test_every_codec_is_its_json():
    for spec in SPECS:
        values = codec(spec).as_json()
        assert CODECS[values.pop("name")](**values) == codec(spec)
    assert parse_codec("float32", "--encode") is None


@pytest.mark.parametrize("spec", SPECS)
def test_the_size_is_known_or_estimated_before_there_are_values(spec):
    vector = Vector((70_000, 1, 0, 130_000), 2)
    encoded = codec(spec).encode(heavy(vector.size), vector)
    found = expected_size(codec(spec), vector)
    size = encoded.data.nbytes + encoded.table.nbytes + encoded.scales.nbytes
    assert found.exact == spec.startswith(("float16", "int8", "randk", "sign"))
    assert found.bytes == (size if found.exact else pytest.approx(size, rel=0.25))


@pytest.mark.parametrize(
    ("share", "measured"),
    [(0.01, 98_818), (0.03, 282_742), (0.07, 604_875), (0.1, 820_753), (0.2, 1_492_048)],
)
def test_the_estimate_for_a_resnet18_is_near_what_its_updates_take(share, measured):
    found = expected_size(codec(f"round={share}"), Vector((11_181_642,)))
    assert found.bytes == pytest.approx(measured, rel=0.1)


def test_steps_that_a_codec_cannot_hold_have_no_size():
    assert expected_size(codec("round=1"), Vector((200_000,))) is None
