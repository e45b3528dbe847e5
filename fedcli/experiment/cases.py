"""The cases of a sweep: the product of lists of values, and explicit cases."""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fedcli.errors import UsageError
from fedcli.experiment.names import case_names
from fedcli.experiment.values import noted, raise_together, typed_value, unknown
from fedcli.options import Declared
from fedcli.text import brief

Sections = Mapping[str, Mapping[str, Declared]]  # options by section and key
Settings = Mapping[str, Mapping[str, Any]]  # their values
Typed = Mapping[str, Mapping[str, Sequence[Any]]]  # several values of each
NOTHING_TYPED: Typed = MappingProxyType({})

_CASES = "case"
_MOST_CASES = 10_000  # far above the runs of any sweep
_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True)
class Case:
    """One run of a sweep: all its settings, and by ``section.key`` those that the sweep chose."""

    name: str
    settings: dict[str, dict[str, Any]]
    chosen: dict[str, Any]


def expand(
    settings: Settings,
    sweep: Mapping[str, Any],
    sections: Sections,
    origin: str,
    typed: Typed = NOTHING_TYPED,
) -> tuple[Case, ...]:
    """Return the cases of ``[sweep]``: every explicit case with every combination of the lists.

    The last list varies fastest. A key is that of an option, with its section before a dot if
    several sections have it. What was ``typed`` wins over ``settings`` and over the lists; several
    values of an option are a list. Raises ``UsageError`` that names ``origin`` and the key.
    """
    keys = _Keys(sections, f"{origin}: [sweep]")
    explicit, lists = _read(sweep, keys, origin)
    fixed: dict[str, Any] = {}
    for full, values in _by_full_key(typed):
        if full in lists or len(values) > 1:
            lists[full] = [keys.typed(full, value) for value in values]
        else:
            fixed[full] = keys.typed(full, values[0])
    _check_separate(explicit, {*lists, *fixed}, keys)
    count = math.prod(map(len, lists.values())) * max(1, len(explicit))
    if count > _MOST_CASES:
        raise UsageError(f"{keys.origin}: {count} cases, expected at most {_MOST_CASES}")
    chosen = [
        {**table, **dict(zip(lists, values, strict=True))}
        for table in explicit or [{}]
        for values in itertools.product(*lists.values())
    ]
    _check_distinct(chosen, keys)
    names = case_names([{keys.short(k): v for k, v in one.items()} for one in chosen])
    return tuple(
        Case(name, _merged(settings, {**fixed, **one}), one)
        for name, one in zip(names, chosen, strict=True)
    )


def _read(
    sweep: Mapping[str, Any], keys: "_Keys", origin: str
) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """Return the explicit cases and the lists. Raises ``UsageError`` that names all faults."""
    explicit, lists, faults = list[dict[str, Any]](), dict[str, list[Any]](), list[UsageError]()
    for number, table in _tables(sweep, keys.origin):
        with noted(faults):
            explicit.append(keys.case(number, table))
    for key, value in keys.flat({k: v for k, v in sweep.items() if k != _CASES}):
        with noted(faults):
            full = keys.new(key, lists)
            lists[full] = keys.values(full, value)
    raise_together(origin, faults)
    return explicit, lists


def _by_full_key(typed: Typed) -> Iterator[tuple[str, Sequence[Any]]]:
    for section, options in typed.items():
        for key, values in options.items():
            yield f"{section}.{key}", values


def _check_separate(
    explicit: Sequence[Mapping[str, Any]], others: Collection[str], keys: "_Keys"
) -> None:
    for number, table in enumerate(explicit, start=1):
        if twice := [key for key in table if key in others]:
            raise UsageError(
                f"{keys.origin}: case {number} has {keys.short(twice[0])}, which is also given for"
                " all cases: keep one of them"
            )


def _tables(sweep: Mapping[str, Any], origin: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    tables = sweep.get(_CASES, [])
    if not isinstance(tables, list):
        raise UsageError(f"{origin}: expected [[sweep.case]], with two brackets")
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping):
            raise UsageError(f"{origin}: case {number}: expected a table, found {brief(table)}")
        yield number, table


def _check_distinct(chosen: Sequence[Mapping[str, Any]], keys: "_Keys") -> None:
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for one in chosen:
        what = tuple(sorted(one.items()))
        if what in seen:
            words = ", ".join(f"{keys.short(key)} {value}" for key, value in one.items())
            raise UsageError(f"{keys.origin}: the same case twice: {words}")
        seen.add(what)


def _merged(settings: Settings, chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    merged = {section: dict(values) for section, values in settings.items()}
    for full, value in chosen.items():
        section, key = full.split(".", 1)
        merged.setdefault(section, {})[key] = value
    return merged


@dataclass(frozen=True)
class _Keys:
    """The keys that ``[sweep]`` can have, and what their values can be."""

    sections: Sections
    origin: str

    def full(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return a table by ``section.key``."""
        found: dict[str, Any] = {}
        for key, value in self.flat(table):
            found[self.new(key, found)] = value
        return found

    def new(self, key: str, found: Collection[str]) -> str:
        """Return a key with its section, which is not among those that were found before."""
        full = self._resolve(key)
        if full in found:
            raise UsageError(f"{self.origin}: {full} is there twice")
        return full

    def flat(self, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield keys and values; ``train.lr = …`` is a table in a table."""
        for key, value in table.items():
            if key in self.sections and isinstance(value, Mapping):
                yield from ((f"{key}.{inner}", item) for inner, item in value.items())
            else:
                yield key, value

    def _resolve(self, key: str) -> str:
        section, dot, inner = key.partition(".")
        if dot and inner in self.sections.get(section, {}):
            return key
        having = [] if dot else [name for name, keys in self.sections.items() if key in keys]
        if len(having) == 1:
            return f"{having[0]}.{key}"
        if having:
            ways = " or ".join(f'"{name}.{key}"' for name in having)
            raise UsageError(f"{self.origin}: {key} is in several sections: write {ways}")
        keys = [inner for keys in self.sections.values() for inner in keys]
        raise unknown("key", key, keys, self.origin)

    def short(self, full: str) -> str:
        """Return a key without its section if that is clear."""
        key = full.split(".", 1)[1]
        return key if sum(key in keys for keys in self.sections.values()) == 1 else full

    def case(self, number: int, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of an explicit case."""
        origin = f"{self.origin}: case {number}"
        keys = _Keys(self.sections, origin)
        found = {key: keys.one(key, value) for key, value in keys.full(table).items()}
        if not found:
            raise UsageError(f"{origin} is empty")
        return found

    def values(self, full: str, value: Any) -> list[Any]:
        """Return the values of a list, or of a range of whole numbers such as ``"0-2"``."""
        one, origin = self._declared(full), f"{self.origin} {self.short(full)}"
        if isinstance(value, str) and one.kind is int and not one.many:
            return [self.one(full, number) for number in numbers_of(value, origin)]
        if not isinstance(value, list | tuple):
            section = full.split(".")[0]
            raise UsageError(
                f"{origin}: expected a list of values, found {brief(value)}",
                hint=f"a value that all runs share belongs in [{section}]",
            )
        if not value:
            raise UsageError(f"{origin}: expected at least one value, found an empty list")
        return [self.one(full, item) for item in value]

    def one(self, full: str, value: Any) -> Any:
        """Return a value as its option takes it."""
        one, origin = self._declared(full), f"{self.origin} {self.short(full)}"
        if one.many and not isinstance(value, list | tuple):
            raise UsageError(f"{origin}: each value is a list itself, found {brief(value)}")
        return typed_value(one, value, origin)

    def typed(self, full: str, value: Any) -> Any:
        """Return a value of the command line, once it is checked."""
        self._declared(full).check(value)
        return value

    def _declared(self, full: str) -> Declared:
        section, key = full.split(".", 1)
        return self.sections[section][key]


def numbers_of(text: str, origin: str) -> list[int]:
    """Read whole numbers: ``0-2``, ``0,1,5`` or both. Raises ``UsageError``."""
    numbers: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(f"{part.strip()}-{part.strip()}") or _RANGE.fullmatch(part.strip())
        if found is None:
            raise UsageError(f"{origin}: expected numbers such as 0-2 or 0,1,5, found {text!r}")
        first, last = map(int, found.groups())
        if not first <= last < first + _MOST_CASES:
            raise UsageError(f"{origin}: {part.strip()} is not a range of 1 to {_MOST_CASES}")
        numbers += range(first, last + 1)
    return numbers
