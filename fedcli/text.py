"""Text of strangers, as it can be shown: names in files may hold anything."""

import reprlib
from typing import Any

_MOST = 4000  # characters of a message; the longest path has 4096


def printable(text: str, most: int = _MOST) -> str:
    """Return text in one line that does nothing to a terminal, and is not too long for one.

    Line ends become spaces; other characters that cannot be printed (control characters, escape
    sequences, changes of direction, lone surrogates) become escapes such as ``\\x1b``.
    """
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    line = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def brief(value: Any) -> str:
    """Return what a value looks like in Python, cut where it is long."""
    return printable(repr(value[:80]) if isinstance(value, str) else reprlib.repr(value), 80)
