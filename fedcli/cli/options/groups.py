"""Groups of options: a command takes each as one value, the command line as options of their own.

A command's parameter of the type ``Annotated[Given, Takes(...)]`` stands for all options that are
declared there; it is given those that were typed, by name. One whose type is a section, a dataclass
that declares options, is given an instance of it. One of the type ``Annotated[T, Option(...)]`` is
an option by itself.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from fedcli.cli.options.lists import as_typed, comma_list, names_with_commas, one_a_time
from fedcli.errors import UsageError
from fedcli.options import AUTO, Declared, Option, declared, help_text


@dataclass(frozen=True)
class Takes:
    """Which options a parameter stands for; they are looked up when a command is built."""

    options: Callable[[], Mapping[str, Declared]]
    panel: str | None = None

    def value(self, given: dict[str, Any]) -> Any:
        """Return what the command is given."""
        return given

    def declarations(self) -> Iterable[Declared]:
        """Return what is known of the options, whatever they are typed as."""
        return self.options().values()


@dataclass(frozen=True)
class _Builds(Takes):
    """A parameter whose value is a section that is built of the options."""

    section: Callable[..., Any] = dict

    def value(self, given: dict[str, Any]) -> Any:
        return self.section(**given)


@dataclass(frozen=True)
class _Alone(Takes):
    """A parameter that is an option itself."""

    usual: Any = None

    def value(self, given: dict[str, Any]) -> Any:
        return next(iter(given.values()), self.usual)


def declarations_of(command: Callable[..., None]) -> dict[str, Declared]:
    """Return the declared options of a command, by their words."""
    declarations = (takes.declarations() for takes in _groups(command).values())
    return {one.words: one for its in declarations for one in its}


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer is to see it: with the options of its groups as its own.

    They stand where the group stands. Raises ``ValueError`` for two options of one name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = _groups(command)
    options = {name: dict(takes.options()) for name, takes in groups.items()}
    parameters: list[Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if takes := groups.get(parameter.name):
            parameters += [_parameter(one, takes) for one in options[parameter.name].values()]
        else:
            kept = parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            parameters.append(kept)

    @wraps(command)
    def call(**values: Any) -> None:
        packed = {name: takes.value(typed(options[name], values)) for name, takes in groups.items()}
        command(**values, **packed)

    seen: Any = call  # typer reads these two attributes
    seen.__signature__ = Signature(parameters)
    seen.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _groups(command: Callable[..., None]) -> dict[str, Takes]:
    hints = get_type_hints(command, include_extras=True)
    groups = {name: takes for name, hint in hints.items() if (takes := _group(hint)) is not None}
    return groups | _alone(command)


def _group(hint: Any) -> Takes | None:
    if isinstance(hint, type) and is_dataclass(hint):
        return _Builds(lambda: declared(hint), section=hint)
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Takes)), None)


def _alone(command: Callable[..., None]) -> dict[str, Takes]:
    return {
        name: _Alone(partial(dict, {name: one}), usual=one.default)
        for name, one in declared(command).items()
        if isinstance(one.option, Option)
    }


def _parameter(one: Declared, takes: Takes) -> Parameter:
    """Return an option as typer declares it; None is that it was not typed."""
    option = one.option
    words = [one.words, *option.aliases, *([option.short] if option.short else [])]
    if one.kind is bool and not option.flag:
        words = [f"{one.words}/--no-{one.words.removeprefix('--')}"]
    kind: Any = str if one.many or option.auto else one.kind
    declaration = typer.Option(
        *words,
        help=help_text(one),
        metavar=option.metavar,
        envvar=option.envvar,
        rich_help_panel=option.panel or takes.panel,
    )
    hint: Any = Annotated[(list[str] if option.repeat else kind) | None, declaration]
    return Parameter(_key(one), Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _key(one: Declared) -> str:
    """Return the name that an option has among all of a command."""
    return one.words.removeprefix("--").replace("-", "_")


def typed(options: Mapping[str, Declared], values: dict[str, Any]) -> dict[str, Any]:
    """Take what was typed out of the values of a command line, each as its declaration wants it.

    Raises ``UsageError`` for a list that is none.
    """
    found = {name: values.pop(_key(one), None) for name, one in options.items()}
    return {
        name: _value(options[name], value)
        for name, value in found.items()
        if value is not None and value != []
    }


def _value(one: Declared, typed: Any) -> Any:
    if one.many:
        return one.spelled(_items(one, typed))
    if one.option.listed:
        return as_typed(typed)
    return number_or_auto(one, typed) if one.option.auto else one.spelled(typed)


def number_or_auto(one: Declared, typed: str) -> int | None:
    """Read a number, or ``auto``, which is None. Raises ``UsageError``."""
    if typed.casefold() == AUTO:
        return None
    least = int(one.option.at_least or 0)
    if not re.fullmatch(r"\d{1,18}", typed) or int(typed) < least:
        raise UsageError(
            f"{one.words}: expected {AUTO} or a number of at least {least}, found {typed!r}"
        )
    return int(typed)


def _items(one: Declared, typed: Any) -> tuple[Any, ...]:
    """Read a list: one text with commas, in which ``none`` is the empty list, or one a time."""
    if one.option.repeat and one.kind is str:
        return one_a_time(typed)
    if one.option.repeat:  # an empty name is left in, so that it is refused as none
        return tuple(map(names_with_commas, typed))
    parts = comma_list("" if typed.casefold() == "none" else typed)
    if one.kind is str:
        return parts
    try:
        numbers = tuple(map(one.kind, parts))
    except ValueError:
        numbers = ()
    if not numbers:
        raise UsageError(f"{one.words}: expected numbers such as 100,200,700, found {typed!r}")
    return numbers
