"""Spelling: other ways to write a known word, and the known word like a mistyped one."""

import re
from collections.abc import Callable, Iterable

_ENDS = (":", "=")  # of a word that takes more, such as "npz:" and "topk="
_LIKE = 0.6  # the least similarity of a suggestion, from 0 to 1
_PREFIX = 3  # the fewest letters that stand for a whole word


def folded(word: str) -> str:
    """Return a word without what people spell in several ways: case, spaces, hyphens, underscores.

    >>> folded("Trimmed_Mean") == folded("trimmed-mean")
    True
    """
    return re.sub(r"[\s_-]", "", word).casefold()


def respelled(text: str, known: Iterable[str]) -> str:
    """Return the known word that a text spells in another way, and the text itself without one.

    A known word that ends in ``:`` or ``=`` takes more: ``NPZ:A_b`` is ``npz:A_b``.
    """
    words = tuple(known)
    if text in words:
        return text
    for fold in (str.casefold, folded):
        found = {one for word in words if (one := _as_known(text, word, fold)) is not None}
        if len(found) == 1:  # regnet_x_16gf and regnet_x_1_6gf are two networks
            return found.pop()
    return text


def _as_known(text: str, word: str, fold: Callable[[str], str]) -> str | None:
    """Return a text with this known word in it, None if it does not spell it."""
    head, rest = text, ""
    if word.endswith(_ENDS):
        head, mark, rest = text.partition(word[-1])
        head += mark
    return word + rest if fold(head) == fold(word) else None


def nearest(text: str, known: Iterable[str]) -> str | None:
    """Return the known word that a mistyped one most likely stands for; None if none is like it."""
    import difflib  # slow to import, and only needed where something is wrong

    by_folded = {folded(word.rstrip(":=")): word for word in reversed(tuple(known))}
    typed = folded(text)
    if typed in by_folded:
        return by_folded[typed]
    begun = [one for one in by_folded if len(typed) >= _PREFIX and one.startswith(typed)]
    near = [min(begun, key=len)] if begun else difflib.get_close_matches(typed, by_folded, 1, _LIKE)
    return by_folded[near[0]] if near else None


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """Return the hint for a mistyped word; None if no known one is like it."""
    near = nearest(text, known)
    return None if near is None else f"did you mean {near}?"
