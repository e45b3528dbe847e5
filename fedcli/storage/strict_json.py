"""Strict reading of JSON from anybody: ambiguous or oversized text is refused.

Python's parser accepts more than JSON (NaN, duplicate names, numbers of any size), and takes ten to
thirty times the memory of the text.
"""

import json
import math
import re
from typing import Any

_MOST_DEPTH = 100  # levels; walking deeper values would exceed the recursion limit
_MOST_MEMORY = 150_000_000  # bytes
_SMALL = 1_000_000  # bytes of text, which can never take more memory than that
_WIDE = re.compile(rb"[\xf0-\xf7]|\\u[dD][89abAB]")  # characters that take four bytes in memory


def parse_json(data: bytes | str, room: int = 1) -> Any:
    """Read a JSON value of at most 100 levels. Raises ``ValueError`` as ``parse_flat`` does."""
    value = parse_flat(data, room)
    _check_depth(value)
    return value


def parse_flat(data: bytes | str, room: int = 1) -> Any:
    """Read a JSON value of any depth, for callers that do not recurse into it.

    Raises ``ValueError`` for text that is not UTF-8 or not JSON, a duplicate name in an object, a
    number that is not finite or has more than 64 bits, half a surrogate pair, and values that would
    take more than ``room`` times 150 MB.
    """
    if isinstance(data, bytes):
        check_memory(data, room)
        data = _decoded(data)
    try:
        value = _DECODER.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if "\\ud" in data or "\\uD" in data:
        _check_surrogates(value)
    return value


def check_memory(data: bytes, room: int = 1) -> None:
    """Raise ``ValueError`` for text whose value would take more than ``room`` times 150 MB."""
    if len(data) > _SMALL and _memory_for(data) > room * _MOST_MEMORY:
        raise ValueError(f"{len(data)} bytes of JSON, which hold too much to be read")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {error.start}") from None


def _memory_for(data: bytes) -> int:
    """Return an upper bound of the memory of the value in bytes, from measured sizes."""
    width = 1 if data.isascii() and b"\\u" not in data else 4 if _WIDE.search(data) else 2
    return (
        len(data) * (1 + 3 * width)  # the data, its text, and strings while they are built
        + 40 * data.count(b",")  # a number and its slot
        + 40 * data.count(b'"')  # half a string
        + 80 * (data.count(b"[") + data.count(b"{"))
        + 180 * data.count(b":")  # an entry of an object, and its pair while parsing
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return values


def _whole(text: str) -> int:
    if len(text) < 19 or (len(text) < 21 and -(2**63) <= int(text) < 2**63):
        return int(text)
    raise ValueError("a number has more than 64 bits")


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_decimal, parse_constant=_constant
)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_DEPTH):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_MOST_DEPTH} levels deep")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise ValueError("a string holds half a surrogate pair") from None
