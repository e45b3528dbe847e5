"""Client ids: which are allowed, and their order."""

import re
from collections.abc import Iterable

from fedcli.errors import UsageError
from fedcli.text import brief

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def client_order(ids: Iterable[str]) -> list[str]:
    """Sort client ids: numbers by value, then names. Sums over clients use this order."""
    return sorted(set(ids), key=lambda i: (0, int(i), i) if i.isdecimal() else (1, 0, i))


def is_client_id(client: str) -> bool:
    """Return whether a string can name a client and its files."""
    return _CLIENT_ID.fullmatch(client) is not None


def check_client_id(client: str) -> str:
    """Return a client id that is safe as a file name; raise ``UsageError`` otherwise."""
    if not is_client_id(client):
        raise UsageError(
            f"client id {brief(client)}: expected letters, digits, '.', '_' or '-', at most 64,"
            " the first a letter or a digit"
        )
    return client
