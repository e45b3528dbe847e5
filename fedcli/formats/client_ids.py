"""Client ids: which are allowed, and their order."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fedcli.errors import UsageError
from fedcli.text import brief

Value = TypeVar("Value")

_CLIENT_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_DIGITS = re.compile(r"([0-9]+)")
# Windows opens a device whatever follows the first dot of such a name.
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL"} | {f"{port}{n}" for port in ("COM", "LPT") for n in range(10)}
)
_PARTS = (".val", ".test")  # a client's shards besides that for training


def client_order(ids: Iterable[str]) -> list[str]:
    """Sort ids in natural order, each once. Sums over clients use this order."""
    numbers: list[str] = []
    others: list[str] = []
    for client in set(ids):
        (numbers if _is_number(client) else others).append(client)
    # of thousands, most are numbers, whose order needs no pattern
    return sorted(numbers, key=_number_key) + sorted(others, key=natural_key)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _number_key(number: str) -> tuple[int, str, str]:
    digits = number.lstrip("0")
    return len(digits), digits, number


def natural_key(name: str) -> tuple[object, ...]:
    """Return the key of natural order: numbers by value, then names, and in these ``a2``, ``a10``.

    Numbers are compared by their length and their digits, since ``int`` refuses very long ones.
    """
    parts = _DIGITS.split(name)
    parts[1::2] = [number.lstrip("0") for number in parts[1::2]]
    keys = [(len(part), part) if at % 2 else part for at, part in enumerate(parts)]
    return (not _is_number(name), keys, name)


def in_client_order(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return a mapping with its client ids in natural order; JSON files have them as text."""
    return {client: values[client] for client in client_order(values)}


def is_client_id(client: str) -> bool:
    """Return whether a string can name a client and its files."""
    return _CLIENT_ID.fullmatch(client) is not None and not _is_device(client)


def _is_device(client: str) -> bool:
    return client.partition(".")[0].upper() in _DEVICES


def check_client_id(client: str) -> str:
    """Return a client id that is safe as a file name; raise ``UsageError`` otherwise."""
    if is_client_id(client):
        return client
    if _CLIENT_ID.fullmatch(client):
        raise UsageError(f"client id {brief(client)}: names a device on Windows; choose another")
    raise UsageError(
        f"client id {brief(client)}: expected letters, digits, '.', '_' or '-', at most 64,"
        " the first a letter or a digit, and no '.' at the end"
    )


def check_distinct(clients: Iterable[str]) -> None:
    """Raise ``UsageError`` for two ids whose files have one name on some file system.

    Windows and macOS do not distinguish upper and lower case.
    """
    seen: dict[str, str] = {}
    for client in clients:
        folded = client.casefold()
        if (other := seen.setdefault(folded, client)) != client:
            raise UsageError(
                f"client ids {other!r} and {client!r}: are one file name where upper and lower case"
                " are not distinguished; choose others"
            )
    for folded, client in seen.items():
        for part in _PARTS:
            if (other := seen.get(folded.removesuffix(part), client)) != client:
                raise UsageError(
                    f"client ids {other!r} and {client!r}: the shards of the first have the names"
                    f" of the second; choose others, without {part!r} at the end"
                )
