"""Untrusted text made printable: names in files may contain anything."""

import csv
import re
import reprlib
from collections.abc import Iterable
from typing import Any

WITHHELD = "withheld"  # what a private run does not tell
_MOST = 4000  # characters of a message; the longest path has 4096


def printable(text: str, most: int = _MOST) -> str:
    """Return text as one line of at most ``most`` characters that is safe on a terminal.

    Line ends become spaces; other characters that cannot be printed (control characters, escape
    sequences, changes of direction, lone surrogates) become escapes such as ``\\x1b``.
    """
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    line = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


# What makes a spreadsheet compute a cell, also in its full-width form and where cells end at ";".
_FORMULA = re.compile("(^|;)(\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20\\t\\r])")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def spreadsheet_text(text: str) -> str:
    """Return text for a cell of a CSV file: printable, and no formula.

    What a spreadsheet would compute gets an apostrophe before it, as OWASP advises ("CSV
    injection"); a number in text stays as it is.
    """
    return text if _NUMBER.fullmatch(text) else printable(_FORMULA.sub(r"\1'\2", text))


def is_utf8(text: str) -> bool:
    """Return whether text can be written to a file; names on a disk may be any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Return names as one list with commas; quotes hold a name together that has a comma."""
    return separator.join(map(_quoted, names))


def _quoted(name: str) -> str:
    if "," in name or name.startswith('"'):
        return '"' + name.replace('"', '""') + '"'
    return name


def unlisted(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas, stripped; raise ``ValueError`` for an open quote."""
    try:
        (row,) = csv.reader([text], skipinitialspace=True, strict=True) if text else ((),)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return tuple(part.strip() for part in row)


def brief(value: Any) -> str:
    """Return the ``repr`` of a value, shortened if long."""
    return printable(repr(value[:80]) if isinstance(value, str) else reprlib.repr(value), 80)
