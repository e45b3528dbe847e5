"""Values and keys of a file, checked against the declarations of options."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.options import AUTO, Declared
from fedcli.plan.sections import convert
from fedcli.text import brief


def typed_value(one: Declared, value: Any, origin: str) -> Any:
    """Return a value of TOML as its option takes it; errors (``UsageError``) name ``origin``."""
    if one.kind is Path and not one.many and isinstance(value, str):
        return Path(value)
    if one.option.auto and value == AUTO:
        return None
    typed = convert(one.hint, value, origin)
    try:
        one.check(typed)
    except UsageError as error:
        what = error.message.removeprefix(f"{one.words}: ")
        raise error.amended(message=f"{origin}: {what}", hint=error.hint) from None
    return typed


def unknown(what: str, name: str, known: Iterable[str], origin: str) -> UsageError:
    """Return the error for a name that is not known, with one that is like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else None
    return UsageError(f"{origin} has an unknown {what} {brief(name)}", hint=hint)
