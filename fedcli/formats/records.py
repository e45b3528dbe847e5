"""JSON files as typed records: the type that writes a file is the type that reads it.

A record is a dataclass whose fields are the keys of a JSON object. A field's metadata
``{"key": name}`` gives a key that is not a Python name, ``{"sparse": True}`` leaves the key out if
it has no value, and ``{"rest": True}`` marks the mapping that collects all other keys; without such
a field, they are ignored.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fedcli.errors import BadInputError
from fedcli.formats.client_ids import in_client_order, is_client_id
from fedcli.storage.atomic import read_json, write_json
from fedcli.text import brief

FORMAT = 1
Record = TypeVar("Record")
Where = tuple[str | int, ...]  # the keys and indices that lead to a value
Reader = Callable[[Any, Where], Any]


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Which values of its type a field may have, as a predicate and in words."""

    holds: Callable[[Any], bool]
    words: str


MANY = 6  # times the room of other files, for an entry for each of 100,000 clients
ClientId = Annotated[str, Allowed(is_client_id, "a client id")]
Count = Annotated[int, Allowed(lambda number: number >= 0, "0 or more")]


class Sparse:
    """A record that is written without keys whose value is None, false or an empty list."""


class FileRecord:
    """A record that makes up a whole JSON file; ``room`` is as in ``read_json``.

    ``lasts`` is whether the file must be on the disk once it is written.
    """

    room: ClassVar[int] = 1
    lasts: ClassVar[bool] = True

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a file; return None if it does not exist.

        Raises ``BadInputError`` when it is not JSON, lacks a key, has a value of a wrong type, or
        has a newer format; ``StorageError`` when it cannot be read.
        """
        try:
            values = read_json(path, cls.room)
            check_format(values.get("format", FORMAT))
            return decode(cls, values)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise BadInputError(
                f"{error}", hint="delete the file and repeat the step that wrote it", path=path
            ) from None

    @classmethod
    def try_read(cls, path: Path) -> Self | None:
        """Read a file; return None also if it is invalid. Raises ``StorageError``."""
        try:
            return cls.read(path)
        except BadInputError:
            return None

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises ``StorageError``."""
        # held by no name here, so that its memory is free again as soon as it is text
        write_json(path, {"format": FORMAT, **encode(self)}, room=self.room, lasts=self.lasts)

    def write_first(self, path: Path) -> None:
        """Write the file atomically; raise ``OvertakenError`` if it exists, which then stays."""
        write_json(path, {"format": FORMAT, **encode(self)}, replace=False, room=self.room)


def check_format(found: object, newest: int = FORMAT) -> None:
    """Raise ``ValueError`` for a format that this version does not read."""
    if type(found) is not int or not 1 <= found <= newest:
        raise ValueError(f"format {brief(found)}; this fedcli reads format {newest}")


def encode(record: Any) -> dict[str, Any]:
    """Return a record as a JSON object: the inverse of ``decode``."""
    values: dict[str, Any] = {}
    is_sparse = isinstance(record, Sparse)
    for each in _fields(record.__class__):
        value = getattr(record, each.name)
        if each.rest:
            values |= value
        elif not (
            (is_sparse and _is_off(value)) or (each.sparse and (_is_off(value) or value == {}))
        ):
            values[each.key] = _encoded(value)
    return values


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == ()


def _encoded(value: Any) -> Any:
    if type(value) in _SCALARS:  # a confusion matrix has thousands
        return value
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    return value


def decode(record: type[Record], values: Any, *where: str | int) -> Record:
    """Build a record from a JSON value; ``where`` is the path of keys that leads to it.

    Raises ``ValueError`` that names the key, the expected and the found value.
    """
    decoded: Record = _read_record(record, values, where)
    return decoded


_SCALARS = frozenset({str, int, float, bool, type(None)})


class _Field(NamedTuple):
    """A field of a record; values of the types ``plain`` need no reader."""

    name: str
    key: str
    plain: frozenset[type[Any]]
    read: Reader
    required: bool
    rest: bool
    sparse: bool


@cache
def _fields(record: type[Any]) -> tuple[_Field, ...]:
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        _Field(
            f.name,
            f.metadata.get("key", f.name),
            _plain(hints[f.name]),
            _reader(hints[f.name]),
            f.default is MISSING and f.default_factory is MISSING,
            f.metadata.get("rest", False),
            f.metadata.get("sparse", False),
        )
        for f in dataclasses.fields(record)
    )


def _plain(hint: Any) -> frozenset[type[Any]]:
    """Return the types of JSON values that a hint allows, whatever the value."""
    if get_origin(hint) in (Union, types.UnionType):
        return frozenset().union(*map(_plain, get_args(hint)))
    return frozenset({hint}) & _SCALARS


@cache
def _reader(hint: Any) -> Reader:
    """Return the function that reads a JSON value as a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value, where: value
    if origin in (Union, types.UnionType):
        return _reader_of_union(arguments)
    if origin is Annotated:
        return partial(_read_allowed, _reader(arguments[0]), arguments[1])
    if origin is tuple:
        return partial(_read_list, arguments[0], _reader(arguments[0]))
    if origin in (dict, Mapping):
        key, item = map(_reader, arguments)
        read = partial(_read_object, key, item)
        if arguments[0] == ClientId:
            return lambda value, where: in_client_order(read(value, where))
        return read
    if dataclasses.is_dataclass(hint):
        return partial(_read_record, hint)
    if issubclass(hint, Enum):
        return partial(_read_enum, hint)
    return _read_float if hint is float else partial(_expect, hint)


def _reader_of_union(alternatives: tuple[Any, ...]) -> Reader:
    """Read null as None, a list as the second alternative, and all else as the first."""
    first, *others = map(_reader, [one for one in alternatives if one is not type(None)])

    def read(value: Any, where: Where) -> Any:
        if value is None and type(None) in alternatives:
            return None
        return others[0](value, where) if others and type(value) is list else first(value, where)

    return read


def _read_float(value: Any, where: Where) -> float:
    return float(value if type(value) is int else _expect(float, value, where))


def _read_allowed(read: Reader, allowed: Allowed, value: Any, where: Where) -> Any:
    if not allowed.holds(read(value, where)):
        raise ValueError(f"{_named(where)}: expected {allowed.words}, found {brief(value)}")
    return value


def _read_enum(kind: type[Enum], value: Any, where: Where) -> Enum:
    try:
        return kind(_expect(str, value, where))
    except ValueError:
        known = ", ".join(one.value for one in kind)
        found = brief(value)
        raise ValueError(f"{_named(where)}: expected one of {known}, found {found}") from None


def _read_list(hint: Any, read: Reader, value: Any, where: Where) -> tuple[Any, ...]:
    items = value if type(value) is tuple else _expect(list, value, where)
    # a confusion matrix has thousands of counts
    if hint == Count and set(map(type, items)) <= {int} and min(items, default=0) >= 0:
        return tuple(items)
    return tuple(read(item, (*where, i)) for i, item in enumerate(items))


def _read_object(read_key: Reader, read: Reader, value: Any, where: Where) -> dict[Any, Any]:
    pairs = _expect(dict, value, where).items()
    return {read_key(key, where): read(item, (*where, key)) for key, item in pairs}


_ABSENT = object()


def _read_record(record: Any, value: Any, where: Where) -> Any:
    values, arguments = _expect(dict, value, where), {}
    for each in _fields(record):
        if type(found := values.get(each.key, _ABSENT)) in each.plain:
            arguments[each.name] = found
        elif each.rest:
            known = {one.key for one in _fields(record) if not one.rest}
            arguments[each.name] = {key: values[key] for key in values if key not in known}
        elif found is not _ABSENT:
            arguments[each.name] = each.read(found, (*where, each.key))
        elif each.required:
            raise ValueError(f"{_named(where)}: has no {each.key!r}")
    return record(**arguments)


def _expect(kind: type[Any], value: Any, where: Where) -> Any:
    if type(value) is not kind:
        found = type(value).__name__
        raise ValueError(f"{_named(where)}: expected {kind.__name__}, found {found}")
    return value


def _named(where: Where) -> str:
    """Return the path to a value as one name, such as ``results[0].accuracy``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{_shown(key)}" for key in where)
    return "".join(parts).removeprefix(".") or "the file"


def _shown(key: str) -> str:
    return key if key.isidentifier() and len(key) < 80 else brief(key)
