"""What is typed as one word and means more: rounds, classes, members."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fedcli.cli.options.lists import comma_list, names_with_commas, one_a_time
from fedcli.errors import UsageError
from fedcli.text import brief

if TYPE_CHECKING:
    from fedcli.steps.evaluate import Rounds

_MOST_CLIENTS = 1_000_000
_MOST_DIGITS = 10  # of a number that is read


def parse_round(text: str) -> int | Literal["best"] | None:
    """Read the number of a round, ``best``, or None for ``latest``."""
    word = text.casefold()
    if word == "latest":
        return None
    if word == "best":
        return "best"
    if not text.isdecimal():
        raise UsageError(f"--round: expected a number, latest or best, found {text!r}")
    return int(text)


def parse_rounds(text: str) -> "Rounds":
    """Read the number of a round, ``latest`` or ``all``."""
    word = text.casefold()
    if word == "latest":
        return "latest"
    if word == "all":
        return "all"
    if text.isdecimal():
        return int(text)
    raise UsageError(f"--round: expected a number, latest or all, found {text!r}")


def parse_members(texts: Sequence[str]) -> dict[str, str]:
    """Read ``ID=KEY``, each for another client."""
    members: dict[str, str] = {}
    for text in one_a_time(texts):
        client, separator, key = text.partition("=")
        if not separator:
            raise UsageError(
                f"--member: expected ID=KEY, found {brief(text)}",
                hint="fedcli keygen FILE makes a key and prints its public part",
            )
        if client in members:
            raise UsageError(f"--member: names {brief(client)} twice")
        members[client] = key
    return members


def parse_classes(number: int | None, text: str | None) -> tuple[str, ...]:
    """Return the names of the classes from ``--num-classes`` and ``--classes``."""
    names = tuple(filter(None, names_with_commas(text or "")))
    if not names and number is None:
        raise UsageError(
            "--classes: say which classes there are, or how many with --num-classes",
            hint="fedcli init --classes benign,malignant",
        )
    if not names:
        return tuple(str(index) for index in range(number or 0))
    if number not in (None, len(names)):
        raise UsageError(f"--num-classes {number}: --classes names {len(names)}")
    return names


def parse_clients(text: str | None) -> tuple[str, ...]:
    """Return the names of clients: the listed ones, or 0, 1, … for their number; () for None."""
    if text is None or not text.isdecimal():
        return comma_list(text or "")
    if not 1 <= (number := int(text[:_MOST_DIGITS])) <= _MOST_CLIENTS:
        raise UsageError(f"--clients: expected 1 … {_MOST_CLIENTS} clients, found {brief(text)}")
    return tuple(map(str, range(number)))
