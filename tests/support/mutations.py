"""Files of a run, changed as accidents and attackers change them: bytes, JSON, and headers."""

import json
import random
from collections.abc import Callable
from typing import Any

Json = Any

NUMBERS: list[Json] = [
    *(0, -1, 1, 2, 255, 256, 2**31, 2**32 - 1, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(10**30, 10**400, 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324),
]
TEXTS: list[Json] = [
    *("", "..", "../../etc/passwd", "/etc/passwd", "a/b", "0", "00", "٣", "-1", ".hidden", "0 "),
    *("\x00", "a\nb", "\x1b[31mred\x1b[0m", "\x9b2J", "\u202egnp", "\ud800", "\U0001f600"),
    *("é" * 70, "x" * 65, "x" * 5000, "__metadata__", "nan", "1e400", "F8_E4M3", "BF16", "BOOL"),
    *(
        "global",
        "update",
        "counter",
        "control",
        "f" * 64,
        "*" * 50 + "a",
        "[" * 50,
        "control/conv.weight",
    ),
]
OTHERS: list[Json] = [None, True, False, [], {}, [[]], [0] * 70, {"": ""}]
LENGTHS = [0, 1, 2, 7, 8, 2**16, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 100_000_000, 16_000_000]


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change one file of a run; ``others`` are files that pieces may come from."""
    is_json = data.lstrip()[:1] == b"{"
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        structured = rng.random() < 0.7
        if structured and is_json:
            data = _json_changed(rng, data)
        elif structured:
            data = _checkpoint_changed(rng, data)
        else:
            data = rng.choice(BYTES)(rng, data, others)
    return data


# --- bytes -------------------------------------------------------------------------------------


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replace(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = _place(rng, data)
    size = rng.choice((1, 1, 4, 8, 64))
    filling = rng.choice((b"\0", b"\xff", b'"', b"9", b"\x7f", b"\xed\xa0\x80", rng.randbytes(1)))
    return data[:start] + (filling * size)[:size] + data[start + size :]


def _truncate(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: _place(rng, data)]


def _extend(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data + rng.choice((b"\0", b" ", b"}", rng.randbytes(9), data))


def _cut(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start + rng.choice((1, 2, 8, 50)) :]


def _double(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start : start + rng.choice((1, 8, 50))] + data[start:]


def _splice(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


BYTES: list[Callable[[random.Random, bytes, list[bytes]], bytes]] = [
    *(_flip, _flip, _replace, _truncate, _extend, _cut, _double, _splice)
]


# --- JSON --------------------------------------------------------------------------------------


def _json_changed(rng: random.Random, data: bytes) -> bytes:
    try:
        return dumped(rng, changed(rng, json.loads(data)))
    except (ValueError, RecursionError):
        return _flip(rng, data, [])


def dumped(rng: random.Random, value: Json) -> bytes:
    """Encode a value in one of many ways; now and then with a name that comes twice."""
    ascii_only = rng.random() < 0.5 or "\\ud" in json.dumps(value)
    text = json.dumps(value, ensure_ascii=ascii_only, indent=rng.choice((None, None, None, 2)))
    if rng.random() < 0.05 and isinstance(value, dict) and value:
        name = json.dumps(rng.choice(list(value)))
        twice = json.dumps(rng.choice((*NUMBERS, *OTHERS)))
        text = text.replace("{", f"{{{name}: {twice}, ", 1)
    return text.encode()


def changed(rng: random.Random, value: Json) -> Json:
    """Change one thing in a JSON value, anywhere in it."""
    places = list(_places(value))
    if not places:
        return _strange(rng, value)
    parent, key = rng.choice(places)
    operation = rng.choice(("set", "set", "set", "set", "near", "near", "drop", "rename", "copy"))
    if operation == "set":
        parent[key] = _strange(rng, parent[key])
    elif operation == "near":
        parent[key] = _near(rng, parent[key])
    elif operation == "drop":
        del parent[key]
    elif operation == "rename" and isinstance(parent, dict):
        parent[rng.choice((*TEXTS, *parent))] = parent.pop(key)
    else:
        other, place = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[place]))
    return value


def _places(value: Json) -> Any:
    """Yield every place in a value, as what it is in and its key there."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _near(rng: random.Random, value: Json) -> Json:
    """Return a value of the same type that may well be taken."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + rng.choice((-1, 1, 8, -8, 0.5 if isinstance(value, float) else 4))
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        return value[:place] + rng.choice(("", "a", "0", ".", "-", "é")) + value[place + 1 :]
    if isinstance(value, list):
        return value[:-1] if rng.random() < 0.5 else [*value, *value[:1]]
    return value


def _strange(rng: random.Random, value: Json) -> Json:
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(NUMBERS)
    if kind < 0.7:
        return rng.choice(TEXTS)
    if kind < 0.9:
        return rng.choice(OTHERS)
    for _ in range(rng.choice((1, 3, 99, 101, 500))):
        value = [value] if kind < 0.95 else {"a": value}
    return value


# --- checkpoints -------------------------------------------------------------------------------


def _checkpoint_changed(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length], data[8 + length :]
    kind = rng.random()
    if kind < 0.08:
        other = rng.choice((*LENGTHS, length - 1, length + 1)) % 2**64
        return other.to_bytes(8, "little") + data[8:]
    if kind < 0.16 and values:
        return data[: 8 + length] + _flip(rng, values, [])
    try:
        tree = json.loads(header)
        if kind < 0.55:
            own = json.loads(tree["__metadata__"]["fedcli"])
            tree["__metadata__"]["fedcli"] = dumped(rng, changed(rng, own)).decode()
        elif kind < 0.65:
            values = _other_tensors(rng, tree, values)
        else:
            tree = changed(rng, tree)
        return encoded(dumped(rng, tree), values)
    except (ValueError, KeyError, TypeError, RecursionError):
        return _flip(rng, data, [])


def _other_tensors(rng: random.Random, tree: Json, values: bytes) -> bytes:
    """Change tensors so that the layout stays sound: another shape, order, dtype, one more."""
    names = [name for name in tree if name != "__metadata__"]
    if not names:
        raise ValueError("no tensors")
    name = rng.choice(names)
    entry = tree[name]
    start, stop = entry["data_offsets"]
    kind = rng.randrange(4)
    if kind == 0:
        entry["shape"] = [1, *reversed(entry["shape"])]
    elif kind == 1:
        entry["dtype"], entry["shape"] = rng.choice(("U8", "I8", "BOOL")), [stop - start]
    elif kind == 2:
        tree[rng.choice(TEXTS)] = {"dtype": "F32", "shape": [], "data_offsets": [len(values)] * 2}
        tree[names[0]], tree[name] = tree[name], tree[names[0]]
    else:
        end = len(values)
        tree[f"{name}.more"] = {"dtype": "U8", "shape": [3], "data_offsets": [end, end + 3]}
        values += b"\0\1\2"
    return values


def encoded(header: bytes, values: bytes) -> bytes:
    """Put a checkpoint together."""
    return len(header).to_bytes(8, "little") + header + values
