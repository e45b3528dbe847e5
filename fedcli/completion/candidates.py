"""What can stand at the cursor of an unfinished command line."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fedcli.completion.catalogue import Row, argument, catalogue, options, summaries, words
from fedcli.completion.runs import clients_of, rounds_of, runs_like
from fedcli.spelling import folded

_PROGRAM = {
    "help": "Say all of a command and its options",
    "--version": "Print the version",
    "--install-completion": "Install completion for the current shell",
    "--show-completion": "Print the completion script for the current shell",
    "--help": "Show the help",
}


class Candidate(NamedTuple):
    """A word that can stand at the cursor, and what it means; ``goes_on`` if more must follow."""

    word: str
    help: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the word is the start of a value."""
        return self.word.endswith((":", "=", "/"))


def candidates(typed: Sequence[str], start: str, environ: Mapping[str, str]) -> list[Candidate]:
    """Return what can stand for ``start``, the word at the cursor, after the words typed before it.

    Without any, the shell completes file names.
    """
    command = typed[0] if typed else ""
    if command in ("", "help"):
        known = {**summaries(), **({} if command else _PROGRAM)}
        return [Candidate(word, text) for word, text in known.items() if word.startswith(start)]
    if command not in catalogue()["commands"]:
        return []
    rows = options(command)
    if start.startswith("-") and "=" in start:  # zsh and fish have both in one word
        name, _, value = start.partition("=")
        found = _values(rows.get(name, {}), typed, value, environ)
        return [Candidate(f"{name}={one.word}", one.help) for one in found]
    before = rows.get(typed[-1], {})
    if "takes" in before:
        return _values(before, typed, start, environ)
    if start.startswith("-"):
        return _names(rows, start)
    return _values(argument(command), typed, start, environ)


def _names(rows: Mapping[str, Row], start: str) -> list[Candidate]:
    """Return the options that begin so; another name of one only where none else does."""
    names = {row["name"]: row["help"] for row in rows.values()}
    names |= {row["off"]: row["help"] for row in rows.values() if "off" in row}
    others = {word: row["help"] for word, row in rows.items()}
    for known in (names, others):
        if found := [
            Candidate(word, text) for word, text in known.items() if word.startswith(start)
        ]:
            return found
    return []


def _values(
    row: Row, typed: Sequence[str], start: str, environ: Mapping[str, str]
) -> list[Candidate]:
    """Return the values of an option that begin so, and the next items of a list."""
    head, comma, item = start.rpartition(",") if "list" in row else ("", "", start)
    known = [*_words_of(row), *_named_in_run(row, typed, item, environ)]
    taken = head.split(",")
    found = [word for word in known if folded(word).startswith(folded(item)) and word not in taken]
    return [Candidate(f"{head}{comma}{word}") for word in dict.fromkeys(found)]


def _words_of(row: Row) -> tuple[str, ...]:
    return words(row["words"]) if "words" in row else ()


def _named_in_run(
    row: Row, typed: Sequence[str], start: str, environ: Mapping[str, str]
) -> Iterable[str]:
    if row.get("from") == "runs":
        return runs_like(start)
    if row.get("from") == "clients":
        return clients_of(_run(typed, environ))
    return rounds_of(_run(typed, environ)) if row.get("from") == "rounds" else ()


def _run(typed: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the run directory that the command line is about."""
    words = [part for word in typed for part in _parts(word)]
    named = [value for name, value in pairwise(words) if name in ("--run", "-r")]
    return str(Path(named[-1] if named else environ.get("FEDCLI_RUN") or "fedrun").expanduser())


def _parts(word: str) -> list[str]:
    """Split ``--run=DIR``, which zsh and fish leave as one word."""
    return word.split("=", 1) if word.startswith("--") else [word]
