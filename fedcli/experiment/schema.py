"""A JSON schema of an experiment's file, which editors complete and check it with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.sweep import sweep_sections
from fedcli.experiment.template import explained, set_by_default
from fedcli.options import AUTO, Declared

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
_BOUNDS = {
    "at_least": "minimum",
    "above": "exclusiveMinimum",
    "at_most": "maximum",
    "below": "exclusiveMaximum",
}
_RANGES = {"type": "string", "pattern": r"^\d+(-\d+)?( *, *\d+(-\d+)?)*$"}
_LISTS = "Lists of values, whose product is run; whole numbers may be a range, such as 0-2."
_CASES = "What belongs together; each case is run with every combination of the lists."

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the schema, draft 7, of a file with every section."""
    sections = {
        name: _table({key: _property(one) for key, one in options().items()}, options.__doc__ or "")
        for name, options in SECTIONS.items()
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An experiment of fedcli",
        **_table({**sections, "sweep": _sweep()}),
    }


def _table(properties: Mapping[str, Schema], description: str = "") -> Schema:
    said = {"description": description} if description else {}
    return {"type": "object", **said, "properties": properties, "additionalProperties": False}


def _property(one: Declared) -> Schema:
    default = set_by_default(one)
    stated = {} if default is None else {"default": _plain(default)}
    described = explained(one, with_default=default is None)
    return {**_values(one), "description": described, **stated}


def _values(one: Declared) -> Schema:
    """Describe the values that an option takes."""
    if one.many:
        return {"type": "array", "items": _item(one)}
    return {"anyOf": [_item(one), {"const": AUTO}]} if one.option.auto else _item(one)


def _item(one: Declared) -> Schema:
    if one.kind not in _TYPES:  # a list in a list
        return {"type": "array", "items": {"type": "string"}}
    bounds = {
        word: bound
        for name, word in _BOUNDS.items()
        if (bound := getattr(one.option, name)) is not None
    }
    choices = {} if one.option.choices is None else {"enum": list(one.option.choices)}
    return {"type": _TYPES[one.kind], **bounds, **choices}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _sweep() -> Schema:
    """Describe ``[sweep]``, where a key may stand with its section, before a dot or in a table."""
    values = {
        name: {key: _values(one) for key, one in options.items()}
        for name, options in sweep_sections().items()
    }
    lists = {name: {k: _several(v) for k, v in table.items()} for name, table in values.items()}
    cases = {"type": "array", "description": _CASES, "items": _table(_in_all_ways(values))}
    return _table({**_in_all_ways(lists), "case": cases}, _LISTS)


def _several(values: Schema) -> Schema:
    listed = {"type": "array", "items": values, "minItems": 1}
    return {"anyOf": [listed, _RANGES]} if values.get("type") == "integer" else listed


def _in_all_ways(tables: Mapping[str, Mapping[str, Schema]]) -> dict[str, Schema]:
    keys = [key for table in tables.values() for key in table]
    short = {k: v for table in tables.values() for k, v in table.items() if keys.count(k) == 1}
    dotted = {f"{name}.{key}": v for name, table in tables.items() for key, v in table.items()}
    nested = {name: _table(table) for name, table in tables.items() if name not in short}
    return {**short, **dotted, **nested}
