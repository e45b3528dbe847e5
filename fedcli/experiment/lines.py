"""Options as the words of a command line."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedcli.options import Declared
from fedcli.text import listed


def words_of(one: Declared, value: Any) -> list[str]:
    """Return an option with its value as the words of a command line."""
    if isinstance(value, bool):
        off = [] if one.option.flag else [f"--no-{one.words.removeprefix('--')}"]
        return [one.words] if value else off
    if one.many and one.option.repeat:
        return [word for item in value for word in (one.words, _item(item))]
    if one.many:
        return [one.words, listed(map(str, value), ",") or "none"]
    return [one.words, str(value)]


def _item(value: Any) -> str:
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    return listed(map(str, value), ",") if is_list else str(value)


def shell_line(command: str, run: Path, words: Iterable[str]) -> str:
    """Return a command as it is typed."""
    return shlex.join(["fedcli", command, "--run", str(run), *words])
