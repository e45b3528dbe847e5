"""Values of a plan: ranges, known names, and what a file says checked against a type."""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import UsageError
from fedcli.text import brief

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)
else:
    Section = TypeVar("Section")

Range = tuple[str, Callable[[float], bool]]
ABOVE_0: Range = ("a number above 0", lambda value: 0 < value < math.inf)
FROM_0: Range = ("a number of at least 0", lambda value: 0 <= value < math.inf)
_LARGEST = 10**9  # of whole numbers: no count of anything here comes near
FROM_1: Range = ("1 or more", lambda value: value >= 1)
BELOW_1: Range = ("a number from 0 to below 1", lambda value: 0 <= value < 1)


def check_ranges(section: object, ranges: Mapping[str, Range]) -> None:
    """Refuse numbers of a section that are set and out of range (``UsageError``)."""
    for name, (expected, holds) in ranges.items():
        value = getattr(section, name)
        if type(value) is int and value > _LARGEST:
            raise UsageError(f"{option_of(name)}: expected at most {_LARGEST}, found {value}")
        if value is not None and not holds(value):
            raise UsageError(f"{option_of(name)}: expected {expected}, found {value}")


def check_seed(seed: int) -> int:
    """Return a seed that files can hold; raise ``UsageError`` otherwise."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed: expected a number from 0 to below 2^63, found {seed}")
    return seed


def option_of(name: str) -> str:
    """Return the option that sets a key of the plan."""
    return f"--{name.replace('_', '-')}"


def one_of(option: str, value: str, known: Mapping[str, object]) -> str:
    """Return ``value`` when it is known; raise ``UsageError`` that lists what is."""
    if value not in known:
        raise UsageError(f"{option}: unknown value {value!r}; known: {', '.join(known)}")
    return value


def updated(section: Section, values: Mapping[str, Any], without: Sequence[str] = ()) -> Section:
    """Return the section with the values that are given (not None) in place of its own.

    The keys of ``without`` that are not given become None.
    """
    hints = get_type_hints(type(section))
    given = {key: value for key, value in values.items() if value is not None}
    checked = {key: convert(hints[key], value, option_of(key)) for key, value in given.items()}
    return replace(section, **{**dict.fromkeys(without), **checked})


def section_of(cls: type[Section], values: Any, origin: str) -> Section:
    """Build a section from an object of JSON or a table of TOML; lists become tuples.

    Raises ``UsageError`` that names ``origin`` and the key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{origin}: expected an object, found {brief(values)}")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise UsageError(f"{origin} has an unknown key {brief(key)}; known: {', '.join(hints)}")
    for each in fields(cls):
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise UsageError(f"{origin} has no {each.name!r}")
    return cls(
        **{key: convert(hints[key], value, f"{origin} {key}") for key, value in values.items()}
    )


def convert(expected: Any, value: Any, origin: str) -> Any:
    """Check a value read from JSON or TOML against a type hint; lists become tuples.

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
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise UsageError(f"{origin}: expected {expected.__name__}, found {brief(value)}")
    if expected is float and not math.isfinite(value):
        raise UsageError(f"{origin}: expected a finite number, found {value}")
    return value


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Write options by their keys as the words of a command line, without those that are None."""
    words = []
    for name, value in options.items():
        option = option_of(name)
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        elif value is not None:
            text = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
            words += [option, text]
    return words
