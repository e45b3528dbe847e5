"""JSON files as typed records: read once, checked, and named when they are broken.

A record is a frozen dataclass whose fields are the keys of a JSON object; a field's metadata
``{"key": name}`` gives a key that Python cannot spell. Keys that are not known are passed over.
"""

import dataclasses
import math
import types
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import BadInputError
from fedcli.files import read_json

FORMAT = 1
Record = TypeVar("Record")


def read_record(record: type[Record], path: Path) -> Record | None:
    """Read one file; None when it is not there.

    Raises ``BadInputError`` that names the file when it is not JSON, when a key is missing or of
    another type, or when it is of a newer format; ``StorageError`` when it cannot be read.
    """
    try:
        values = read_json(path)
        found = values.get("format", FORMAT)
        if type(found) is not int or found > FORMAT:
            raise ValueError(f"format {found!r}; this fedcli reads format {FORMAT}")
        decoded: Record = _decode_record(record, values, "")
        return decoded
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{path}: {error}", hint="delete the file and repeat the step that wrote it"
        ) from None


@cache
def _fields(record: type[Any]) -> tuple[tuple[str, str, Any, bool], ...]:
    """Return the name, the JSON key, the type and whether it is required, of every field."""
    hints = get_type_hints(record)
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
    if get_origin(hint) is types.UnionType:
        hint = get_args(hint)[0]
        if value is None or (hint is float and isinstance(value, float) and math.isnan(value)):
            return None
    if hint is Any:
        return value
    if get_origin(hint) is tuple:
        items = _expect(list, value, where)
        item = get_args(hint)[0]
        if item in (int, str) and set(map(type, items)) <= {item}:
            return tuple(items)  # a confusion matrix has thousands of these
        return tuple(_decode(item, v, f"{where}[{i}]") for i, v in enumerate(items))
    if get_origin(hint) is dict:
        item = get_args(hint)[1]
        pairs = _expect(dict, value, where).items()
        return {key: _decode(item, v, f"{where}.{key}") for key, v in pairs}
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, _expect(dict, value, where), where)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a finite number")
    return _expect(hint, value, where)


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
