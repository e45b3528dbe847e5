"""Groups of options: a command takes each as one value, the command line as options of their own.

A group is a frozen dataclass whose fields are declared as parameters of a typer command are.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Group:
    """The base of all groups. Every field needs a default: an option can be left out."""

    def given(self) -> dict[str, Any]:
        """Return the values that were typed, by the names of their fields.

        It is for groups whose defaults are None, which stands for an option that was not typed.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer is to see it: with the options of its groups as its own.

    They stand where the group stands. Raises ``ValueError`` for two options of one name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    parameters: list[Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            kept = parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            parameters.append(kept)

    @wraps(command)
    def call(**values: Any) -> None:
        packed = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **packed)

    seen: Any = call  # typer reads these two attributes
    seen.__signature__ = Signature(parameters)
    seen.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Group)


def _options(group: type[Group]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]
