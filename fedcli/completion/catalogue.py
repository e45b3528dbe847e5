"""The commands, their options, and the words that these take, as ``catalogue.json`` has them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")

Row = dict[str, Any]


@cache
def catalogue() -> dict[str, Any]:
    """Return the whole catalogue."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def summaries() -> dict[str, str]:
    """Return what each command does, by its name."""
    return {name: str(row["summary"]) for name, row in catalogue()["commands"].items()}


def options(command: str) -> dict[str, Row]:
    """Return the options of a command, by all their words; empty for an unknown command.

    A row has ``name``, the first of the words; ``help``; ``takes``, the name of its value, unless
    it is a flag; ``words``, the name of a list of words; ``from``, what of a run it names; and
    ``list``, if several values can stand in one word.
    """
    rows = catalogue()["commands"].get(command, {}).get("options", {})
    found = {name: {**row, "name": name} for name, row in rows.items()}
    for name, row in tuple(found.items()):
        found |= dict.fromkeys(row.get("also", ()), found[name])
    return found


def argument(command: str) -> Row:
    """Return what the argument of a command names, as a row of an option; empty without one."""
    row: Row = catalogue()["commands"].get(command, {}).get("argument", {})
    return row


def words(name: str) -> tuple[str, ...]:
    """Return a list of words by its name."""
    return tuple(catalogue()["words"][name])


def options_that_take(word: str) -> list[str]:
    """Return the options that know this word, such as ``--algorithm`` for ``fedprox``."""
    lists = {name for name, its in catalogue()["words"].items() if word in its}
    rows = (
        row for command in catalogue()["commands"].values() for row in command["options"].items()
    )
    return [*dict.fromkeys(name for name, row in rows if row.get("words") in lists)]


def commands_with(option: str) -> list[str]:
    """Return the commands that have an option, by any of its words."""
    return [command for command in catalogue()["commands"] if option in options(command)]
