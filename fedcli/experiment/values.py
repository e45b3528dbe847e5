"""Values and keys of a file, checked against the declarations of options."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.options import AUTO, Declared
from fedcli.plan.sections import convert
from fedcli.spelling import did_you_mean
from fedcli.text import brief


def typed_value(one: Declared, value: Any, origin: str) -> Any:
    """Return a value of TOML as its option takes it; errors (``UsageError``) name ``origin``."""
    if one.kind is Path and not one.many and isinstance(value, str):
        return Path(value)
    if one.option.auto and value == AUTO:
        return None
    typed = one.spelled(convert(one.hint, value, origin))
    try:
        one.check(typed)
    except UsageError as error:
        what = error.message.removeprefix(f"{one.words}: ")
        raise error.amended(message=f"{origin}: {what}", hint=error.hint) from None
    return typed


@contextmanager
def noted(faults: list[UsageError]) -> Iterator[None]:
    """Take down a fault, so that the others are found too."""
    try:
        yield
    except UsageError as fault:
        faults.append(fault)


def raise_together(origin: Path | str, faults: Sequence[UsageError]) -> None:
    """Raise one error for all faults of a file, or of what has another ``origin``, if any."""
    path = origin if isinstance(origin, Path) else None
    if len(faults) == 1:
        found = UsageError(faults[0].message, hint=faults[0].hint, path=path)
        found.unknown = faults[0].unknown
        raise found
    said = [
        f"{one.message.removeprefix(f'{origin}: ')}{f' ({one.hint})' if one.hint else ''}"
        for one in faults
    ]
    if said:
        where = "" if path else f"{origin}: "
        raise UsageError(f"{where}{len(said)} faults: {'; '.join(said)}", path=path)


def unknown(what: str, name: str, known: Iterable[str], origin: str) -> UsageError:
    """Return the error for a name that is not known, with one that is like it."""
    hint = did_you_mean(name, known)
    return UsageError(f"{origin} has an unknown {what} {brief(name)}", hint=hint)
