"""JSON that anybody may have written: what is ambiguous, or too much, is refused.

Python's reader takes more than JSON is (NaN, names twice), numbers that nothing else can hold, and
ten to thirty times the memory of the text.
"""

import json
import math
import re
from typing import Any

_MOST_DEPTH = 100  # levels; deeper ones would end the recursion of whoever looks at the value
_MOST_MEMORY = 150_000_000  # bytes
_SMALL = 1_000_000  # bytes of text, which cannot become more than that
_WIDE = re.compile(rb"[\xf0-\xf7]|\\u[dD][89abAB]")  # characters that take four bytes in memory


def parse_json(data: bytes | str) -> Any:
    """Read a JSON value of at most 100 levels. Raises ``ValueError`` as ``parse_flat`` does."""
    value = parse_flat(data)
    _check_depth(value)
    return value


def parse_flat(data: bytes | str) -> Any:
    """Read a JSON value whose depth does not matter, since nobody walks it.

    Raises ``ValueError`` that says what is wrong: not UTF-8, not JSON, a name twice in an object,
    a number that is not finite or has more than 64 bits, half a surrogate pair, or so much of
    anything that the value would take more than 150 MB.
    """
    if isinstance(data, bytes):
        if len(data) > _SMALL and _memory_for(data) > _MOST_MEMORY:
            raise ValueError(f"{len(data)} bytes of JSON, which hold too much to be read")
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


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {error.start}") from None


def _memory_for(data: bytes) -> int:
    """Return how many bytes the value takes at most; what each thing takes was measured."""
    width = 1 if data.isascii() and b"\\u" not in data else 4 if _WIDE.search(data) else 2
    return (
        len(data) * (1 + 3 * width)  # it, its text, and strings in there as they are put together
        + 40 * data.count(b",")  # a number, and its place
        + 40 * data.count(b'"')  # half a string
        + 80 * (data.count(b"[") + data.count(b"{"))
        + 180 * data.count(b":")  # a place in an object, and its pair on the way there
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
    raise ValueError(f"{text} is no number of JSON")


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
