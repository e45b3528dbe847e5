"""Options: type, range, default, help and panel, declared once where they belong.

A declaration is a field of a frozen dataclass (a *section*)::

    trim: float = option(0.2, "Share cut off at each end.", "SHARE", at_least=0, below=0.5)

or a parameter of a function, whose type is ``Annotated[float, Option("Share …")]``.

The command line, plan files, the check of ranges, help and the tables of the docs derive from it.
"""

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fedcli.errors import UsageError
from fedcli.spelling import did_you_mean, respelled

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)
else:
    Section = TypeVar("Section")

Value = TypeVar("Value")
Given = Mapping[str, Any]  # the given options only, by name
NONE: Given = MappingProxyType({})
AUTO = "auto"
_LARGEST = 10**9  # largest integer option, far above any real count


@dataclass(frozen=True)
class Option:
    """The declaration of an option, in addition to its name, type and default.

    ``panel`` is its heading in ``--help``, by default the section's. ``above``, ``at_least``,
    ``below`` and ``at_most`` bound a number, or each number of a list, which messages call
    ``what``; ``choices`` are the allowed values, and ``names`` returns those that are known where
    others are allowed, too; one that takes more ends in ``:`` or ``=``. ``unset`` describes the
    effect of omitting the option if the default does not. In ``unset`` and ``help``, backticks mark
    typed text; the documentation shows them, a terminal does not. A ``flag`` has no ``--no-`` form;
    an option with ``repeat`` is given once per item, ``listed`` is a text that is a list, and
    ``auto`` is what None is called. ``word`` replaces ``--name``, ``short`` abbreviates it,
    ``aliases`` are the field's other words, and the environment variable ``envvar`` sets it too.
    """

    help: str
    metavar: str | None = None
    panel: str | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    what: str = "number"
    choices: Iterable[Any] | None = None
    names: Callable[[], Iterable[str]] | None = None
    unset: str | None = None
    flag: bool = False
    repeat: bool = False
    listed: bool = False
    auto: bool = False
    word: str | None = None
    short: str | None = None
    aliases: tuple[str, ...] = ()
    envvar: str | None = None

    def holds(self, value: float) -> bool:
        """Return whether a number is within the bounds."""
        return math.isfinite(value) and (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def range_in_words(self, kind: type[Any]) -> str:
        """Return the bounds of this number type in words: ``a share from 0 to below 0.5``."""
        if self.at_least is not None and self.below is self.at_most is None:
            least = _short(self.at_least)
            return f"{least} or more" if kind is int else f"a {self.what} of at least {least}"
        words = f"a {self.what}"
        if self.above is not None:
            words += f" above {_short(self.above)}" + ("," if self.at_most is not None else "")
        if self.at_least is not None:
            words += f" from {_short(self.at_least)} to"
        if self.below is not None:
            words += f" below {_short(self.below)}"
        if self.at_most is not None:
            words += f" {'at most ' if self.at_least is None else ''}{_short(self.at_most)}"
        return words


def _short(number: float) -> str:
    return f"{number:g}".replace("e+0", "e")


def option(
    default: Value, help: str, metavar: str | None = None, panel: str | None = None, **rules: Any
) -> Value:
    """Declare an option as a field of a dataclass; the arguments are those of ``Option``."""
    declaration = Option(help, metavar, panel, **rules)
    return dataclasses.field(default=default, metadata={"option": declaration})


@dataclass(frozen=True)
class Declared:
    """One declared option; ``kind`` is its type, or the type of its items if it takes ``many``.

    ``hint`` is the whole type as written; ``default`` is MISSING without a default. ``usual`` is
    then the default of the first of its owners, if there are any.
    """

    name: str
    hint: Any
    kind: Any
    many: bool
    default: Any
    option: Option
    usual: Any = None

    @property
    def words(self) -> str:
        """Its name on the command line: ``--clip-grad``."""
        return self.option.word or option_of(self.name)

    @property
    def known(self) -> tuple[str, ...]:
        """The words that its value, or an item of it, can be; empty if it is not a word."""
        option = self.option
        if option.choices is not None:
            return tuple(map(str, option.choices))
        return () if option.names is None else tuple(option.names())

    def spelled(self, value: Any) -> Any:
        """Return a value, or a list of items, with known words spelled as they are known."""
        if isinstance(value, str):
            return respelled(value, self.known)
        if isinstance(value, list | tuple) and self.kind is str:
            return type(value)(map(self.spelled, value))
        return value

    def check(self, value: Any) -> None:
        """Raise ``UsageError`` for a value out of range or not among the choices; None is unset."""
        for item in value if self.many and value is not None else (value,):
            if item is not None and not isinstance(item, bool):
                self._check_item(item)

    def _check_item(self, item: Any) -> None:
        option = self.option
        if option.choices is not None and type(item) is int:
            if item not in option.choices:
                expected = " or ".join(map(str, option.choices))
                raise UsageError(f"{self.words}: expected {expected}, found {item}")
        elif option.choices is not None:
            if item not in option.choices:
                raise unknown_value(self.words, item, self.known)
        elif type(item) is int and item > _LARGEST:
            raise UsageError(f"{self.words}: expected at most {_LARGEST}, found {item}")
        elif isinstance(item, int | float) and not option.holds(item):
            expected = option.range_in_words(type(item))
            raise UsageError(f"{self.words}: expected {expected}, found {item}")


def declared(owner: Any) -> dict[str, Declared]:
    """Return the options that a dataclass or function declares, by name, in order."""
    return _declared_by(owner)


@cache
def _declared_by(owner: Any) -> dict[str, Declared]:
    hints = get_type_hints(owner, include_extras=True)
    if dataclasses.is_dataclass(owner):
        found = [
            (f.name, hints[f.name], f.metadata["option"], f.default)
            for f in dataclasses.fields(owner)
            if "option" in f.metadata
        ]
    else:
        parameters = inspect.signature(owner).parameters.values()
        found = [
            (p.name, *get_args(hints[p.name])[:2], MISSING if p.default is p.empty else p.default)
            for p in parameters
            if get_origin(hints.get(p.name)) is Annotated
        ]
    return {name: _declared(name, hint, option, default) for name, hint, option, default in found}


def _declared(name: str, hint: Any, option: Option, default: Any) -> Declared:
    kind = get_args(hint)[0] if get_origin(hint) in (Union, types.UnionType) else hint
    many = get_origin(kind) is tuple
    return Declared(name, hint, get_args(kind)[0] if many else kind, many, default, option)


def check(section: "DataclassInstance") -> None:
    """Raise ``UsageError`` for the first invalid option of a section."""
    for name, one in declared(type(section)).items():
        one.check(getattr(section, name))


def check_seed(seed: int, option: str = "--seed") -> int:
    """Return a seed that files can hold; raise ``UsageError`` otherwise."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"{option}: expected a number from 0 to below 2^63, found {seed}")
    return seed


def option_of(name: str) -> str:
    """Return the option that sets a key of a plan."""
    return f"--{name.replace('_', '-')}"


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is known; else raise ``UsageError`` that lists known values."""
    if value not in known:
        raise unknown_value(option, value, known)
    return value


def unknown_value(option: str, value: Any, known: Iterable[str], more: str = "") -> UsageError:
    """Return the error for an unknown value of an option, with a known one that is like it.

    ``more`` continues the list of known values.
    """
    words = tuple(known)
    found = UsageError(
        f"{option}: unknown value {value!r}; known: {', '.join(words)}{more}",
        hint=did_you_mean(str(value), words),
    )
    found.unknown = (option, str(value))
    return found


def help_text(one: Declared) -> str:
    """Return the help of an option with its default, as a terminal shows it: ``Rate [0.1]``.

    Whatever is off if it is not given needs no mention.
    """
    default = "" if one.option.flag else default_text(one).replace("`", "")
    text = one.option.help.replace("`", "").removesuffix(".")
    return f"{text} [{default}]" if default not in ("", "off", "none") else text


def default_text(one: Declared) -> str:
    """Return the default of an option for the documentation: None is off; empty without one."""
    if one.option.unset is not None:
        return one.option.unset
    if one.default is MISSING:
        return ""
    if one.default == ():
        return "none"
    if one.default is None or isinstance(one.default, bool):
        return "on" if one.default else "off"
    return f"`{one.default:g}`" if isinstance(one.default, float) else f"`{one.default}`"


def inner_text(text: str) -> str:
    """Return a help text as part of a sentence: no capital, except of an acronym, and no stop."""
    start = text[0] if text[1:2].isupper() else text[0].lower()
    return f"{start}{text[1:]}".removesuffix(".")


def owned(owners: Mapping[str, Declared]) -> Declared:
    """Merge the declarations of an option by several owners: help and default name the owners.

    The result has no default, which depends on the owner.
    """
    helps = _names_by(lambda one: inner_text(one.option.help), owners)
    defaults = _names_by(default_text, owners)
    text = "; ".join(f"{names}: {text}" for text, names in helps.items())
    unset = "; ".join(f"{text} for {names}" for text, names in defaults.items())
    if len(defaults) == 1:
        (unset,) = defaults
    one = next(iter(owners.values()))
    option = replace(one.option, help=f"{text}.", unset=unset)
    return replace(one, default=MISSING, option=option, usual=one.default)


def _names_by(text_of: Callable[[Declared], str], owners: Mapping[str, Declared]) -> dict[str, str]:
    """Group the owners by ``text_of`` their option, each group as a list in words."""
    names: dict[str, list[str]] = {}
    for owner, one in owners.items():
        names.setdefault(text_of(one), []).append(f"`{owner}`")
    return {text: ", ".join(its) for text, its in names.items()}
