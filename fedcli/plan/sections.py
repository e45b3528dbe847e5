"""Sections of a plan: dataclasses of options, built from a file or a command line."""

import dataclasses
import math
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.text import brief

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)
else:
    Section = TypeVar("Section")


def updated(section: Section, values: Given, without: Sequence[str] = (), **others: Any) -> Section:
    """Return the section updated with the given values that are not None.

    The keys of ``without`` that are not given become None; ``others`` are values whose type needs
    no check.
    """
    hints = get_type_hints(type(section))
    given = {key: value for key, value in values.items() if value is not None}
    checked = {key: convert(hints[key], value, option_of(key)) for key, value in given.items()}
    return replace(section, **{**dict.fromkeys(without), **checked, **others})


def section_of(
    cls: type[Section], values: Any, origin: str, known: Iterable[str] | None = None
) -> Section:
    """Build a section from a JSON object or a TOML table; lists become tuples.

    ``known`` lists the keys that messages name, by default all fields. Raises ``UsageError`` that
    names ``origin`` and the key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{origin}: expected an object, found {brief(values)}")
    hints = get_type_hints(cls)
    known = list(hints if known is None else known)
    for key in values:
        if key not in hints or key not in known:
            raise UsageError(f"{origin} has an unknown key {brief(key)}; known: {', '.join(known)}")
    for each in dataclasses.fields(cls):
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise UsageError(f"{origin} has no {each.name!r}")
    return cls(
        **{key: convert(hints[key], value, f"{origin} {key}") for key, value in values.items()}
    )


def convert(expected: Any, value: Any, origin: str) -> Any:
    """Check a value from JSON or TOML against a type hint; lists become tuples.

    Raises ``UsageError`` that names ``origin``.
    """
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise UsageError(f"{origin}: the number has more than 64 bits")
    if get_origin(expected) is tuple:
        item = get_args(expected)[0]
        if not isinstance(value, list | tuple):
            items = "text" if item is str else "numbers"
            raise UsageError(f"{origin}: expected a list of {items}, found {brief(value)}")
        return tuple(convert(item, element, origin) for element in value)
    if get_origin(expected) is types.UnionType:
        if value is None:
            return None
        expected = get_args(expected)[0]
        return convert(expected, value, origin)
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise UsageError(f"{origin}: expected {expected.__name__}, found {brief(value)}")
    if expected is float and not math.isfinite(value):
        raise UsageError(f"{origin}: expected a finite number, found {value}")
    return value


def over_file(
    file: Given,
    typed: Given,
    rivals: Iterable[Collection[str]] = (),
    owned: Mapping[str, Collection[str]] = NONE,
) -> dict[str, Any]:
    """Return typed options over those of a file, without those that a typed one replaces.

    ``rivals`` are options of which only one is given. ``owned`` lists what belongs to the value of
    an option, such as the options of an algorithm: another value starts from its own defaults.
    """
    replaced = {name for group in rivals if not typed.keys().isdisjoint(group) for name in group}
    for name, its in owned.items():
        if {name} <= typed.keys() & file.keys() and _kind(typed[name]) != _kind(file[name]):
            replaced |= set(its)
    return {**{key: value for key, value in file.items() if key not in replaced}, **typed}


def _kind(value: Any) -> str:
    """Return the name in a value such as ``imagefolder:PATH``."""
    return str(value).partition(":")[0]


def option_words(options: Given) -> list[str]:
    """Return options as the words of a command line, without those that are None."""
    words = []
    for name, value in options.items():
        option = option_of(name)
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        elif value is not None:
            text = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
            words += [option, text]
    return words
