"""Lists as they are typed: with commas, one item a time, or ``@FILE`` with one item per line."""

import re
from collections.abc import Sequence
from pathlib import Path

from fedcli.errors import NotReadyError, StorageError, UsageError
from fedcli.text import brief, listed, unlisted

_FILE = "@"


def comma_list(text: str) -> tuple[str, ...]:
    """Split ``a,b,c``, in which ``"b, c"`` is one item; the empty string is the empty list.

    Raises ``UsageError`` for a quote that does not end, and what ``lines_of`` does.
    """
    return tuple(part for part in _split(text) if part)


def names_with_commas(text: str) -> tuple[str, ...]:
    """Split a list of names that may hold commas, such as those of classes.

    A shell removes the quotes of ``"Melanoma, NOS",nevus``: where only some commas are followed by
    a space, those belong to a name. An empty name is left in, so that it is refused.
    """
    bare = re.split(r",(?!\s)", text)
    if not text.startswith(_FILE) and '"' not in text and 1 < len(bare) < len(text.split(",")):
        return tuple(part.strip() for part in bare)
    return _split(text)


def as_typed(text: str) -> str:
    """Return a list as text with commas: itself, or the lines of ``@FILE``."""
    return listed(lines_of(text), ",") if text.startswith(_FILE) else text


def one_a_time(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the values of an option that can be repeated; ``@FILE`` stands for its lines."""
    return tuple(
        item for text in texts for item in (lines_of(text) if text.startswith(_FILE) else (text,))
    )


def lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of the file in ``@FILE`` that are not empty.

    Raises ``NotReadyError`` if there is none, ``StorageError`` if it cannot be read, and
    ``UsageError`` if it is empty or not text.
    """
    path = Path(text.removeprefix(_FILE)).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        hint = f"{_FILE}FILE is a file with one item per line"
        raise NotReadyError("no such file", hint=hint, path=path) from None
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror}", path=path) from error
    except ValueError:
        raise UsageError("expected text in UTF-8, one item per line", path=path) from None
    if items := tuple(line.strip() for line in lines if line.strip()):
        return items
    raise UsageError("is empty: expected one item per line", path=path)


def _split(text: str) -> tuple[str, ...]:
    if text.startswith(_FILE):
        return lines_of(text)
    try:
        return unlisted(text)
    except ValueError as error:
        raise UsageError(
            f"{brief(text)}: not a list of names with commas: {error}",
            hint="write a quote on both sides of a name, and the whole list in single quotes",
        ) from None
