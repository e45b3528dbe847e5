"""JSON files as typed records: read once, checked, and named when they are broken.

A record is a frozen dataclass whose fields are the keys of a JSON object; a field's metadata
``{"key": name}`` gives a key that Python cannot spell. Keys that are not known are passed over.
"""

import dataclasses
import types
from collections.abc import Callable
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from fedcli.errors import BadInputError
from fedcli.formats.client_ids import is_client_id
from fedcli.storage.atomic import read_json
from fedcli.text import brief

FORMAT = 1
Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Which values of a type a field may have, and what that is in words."""

    holds: Callable[[Any], bool]
    words: str


ClientId = Annotated[str, Allowed(is_client_id, "a client id")]
Count = Annotated[int, Allowed(lambda number: number >= 0, "0 or more")]


def read_record(record: type[Record], path: Path) -> Record | None:
    """Read one file; None when it is not there.

    Raises ``BadInputError`` that names the file when it is not JSON, when a key is missing or of
    another type, or when it is of a newer format; ``StorageError`` when it cannot be read.
    """
    try:
        values = read_json(path)
        found = values.get("format", FORMAT)
        if type(found) is not int or not 1 <= found <= FORMAT:
            raise ValueError(f"format {brief(found)}; this fedcli reads format {FORMAT}")
        return decode(record, values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise BadInputError(
            f"{error}", hint="delete the file and repeat the step that wrote it", path=path
        ) from None


def decode(record: type[Record], values: Any) -> Record:
    """Build a record from a JSON value. Raises ``ValueError`` that says which key is wrong."""
    decoded: Record = _decode_record(record, _expect(dict, values, ""), "")
    return decoded


@cache
def _fields(record: type[Any]) -> tuple[tuple[str, str, Any, bool], ...]:
    """Return the name, the JSON key, the type and whether it is required, of every field."""
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        (
            f.name,
            f.metadata.get("key", f.name),
            hints[f.name],
            f.default is MISSING and f.default_factory is MISSING,
        )
        for f in dataclasses.fields(record)
    )


def _decode(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = get_args(hint)[0]
        if value is None:
            return None
    if hint is Any:
        return value
    if get_origin(hint) is Annotated:
        return _allowed(hint, value, where)
    if get_origin(hint) is tuple:
        return _decode_list(get_args(hint)[0], _expect(list, value, where), where)
    if get_origin(hint) is dict:
        name, item = get_args(hint)
        pairs = _expect(dict, value, where).items()
        return {
            _decode(name, key, where): _decode(item, v, f"{where}.{brief(key)}") for key, v in pairs
        }
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, _expect(dict, value, where), where)
    if hint is float and type(value) is int:
        return float(value)
    return _expect(hint, value, where)


def _allowed(hint: Any, value: Any, where: str) -> Any:
    kind, allowed = get_args(hint)
    if not allowed.holds(_expect(kind, value, where)):
        raise ValueError(f"{where}: expected {allowed.words}, found {brief(value)}")
    return value


def _decode_list(hint: Any, items: list[Any], where: str) -> tuple[Any, ...]:
    # a confusion matrix has thousands of counts
    if hint == Count and set(map(type, items)) <= {int} and min(items, default=0) >= 0:
        return tuple(items)
    return tuple(_decode(hint, item, f"{where}[{i}]") for i, item in enumerate(items))


def _expect(kind: type[Any], value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise ValueError(
            f"{where or 'the file'}: expected {kind.__name__}, found {type(value).__name__}"
        )
    return value


def _decode_record(record: Any, values: dict[str, Any], where: str) -> Any:
    prefix = f"{where}." if where else ""
    arguments = {}
    for name, key, hint, required in _fields(record):
        if key in values:
            arguments[name] = _decode(hint, values[key], prefix + key)
        elif required:
            raise ValueError(f"{where or 'the file'}: has no {key!r}")
    return record(**arguments)
