"""Indented JSON: byte for byte what the standard library writes."""

import json
import random
from typing import Any

import pytest

from fedcli.storage.indented_json import indented_json


def written_slowly(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(4 if depth else 2)
    if kind == 0:
        return rng.choice([None, True, False, "", "a\n\"'\\", "ü„𝔉\x7f", {}, [], ()])
    if kind == 1:
        return rng.choice([0, -1, 2**63, 0.1, -1e300, 5e-324, 1.0])
    items = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return items if kind == 2 else {"büa\n"[at] * 2: item for at, item in enumerate(items)}


def test_bytes_are_those_of_the_standard_library():
    rng = random.Random(0)
    for _ in range(2000):
        value = random_value(rng, 5)
        assert indented_json(value) == written_slowly(value), value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([[float("inf")], {}], ValueError),
        ({"a": [{"b": float("nan")}]}, ValueError),
        (["\ud800"], UnicodeEncodeError),
        ({"a": {1: []}, "b": [[0]]}, None),
        ({1: [0]}, TypeError),
        ([object()], TypeError),
    ],
)
def test_what_json_cannot_hold(value: Any, error: type[Exception] | None):
    if error is None:
        assert indented_json(value) == written_slowly(value)
        return
    with pytest.raises(error):
        indented_json(value)
