"""What is typed as one word and means more: rounds, classes, members."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fedcli.cli.options.groups import names_with_commas
from fedcli.errors import UsageError
from fedcli.text import brief

if TYPE_CHECKING:
    from fedcli.steps.evaluate import Rounds


def parse_round(text: str) -> int | Literal["best"] | None:
    """Read the number of a round, ``best``, or None for ``latest``."""
    if text == "latest":
        return None
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise UsageError(f"--round: expected a number, latest or best, found {text!r}")
    return int(text)


def parse_rounds(text: str) -> "Rounds":
    """Read the number of a round, ``latest`` or ``all``."""
    if text == "latest":
        return "latest"
    if text == "all":
        return "all"
    if text.isdecimal():
        return int(text)
    raise UsageError(f"--round: expected a number, latest or all, found {text!r}")


def parse_members(texts: Sequence[str]) -> dict[str, str]:
    """Read ``ID=KEY``, each for another client."""
    members: dict[str, str] = {}
    for text in texts:
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
