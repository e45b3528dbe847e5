"""The help of the program and of its commands: one column of options, in panels, in plain text."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedcli.cli.manual import Manual

_CUT = " …"
_SHORT = 12  # characters of a default that stands behind a meaning in brief
_WIDEST = 120  # columns; longer lines are hard to read
_NARROWEST = 40
_LONG = 60  # lines; beyond it, an option that is not among the first has one line
_WORDS = 18  # columns; the meaning of what is longer starts behind it
_FIRST = "Most used"
_ARGUMENTS = "Arguments"
_WHOLE = (_ARGUMENTS, _FIRST)  # panels that are never in brief
_REST = "General"
_LAST = ("--json", "--quiet", "--debug", "--help")
_ESCAPES = {"heading": "\x1b[1m", "words": "\x1b[1;36m", "end": "\x1b[0m"}

Rows = Sequence[tuple[str, str]]  # what is typed, and what it means


def program_help(groups: Mapping[str, Mapping[str, str]], options: Rows) -> list[str]:
    """Return the help of the program; ``groups`` have the summaries of commands."""
    panels = {name: [*its.items()] for name, its in groups.items()}
    return [
        *_heading("Usage", "fedcli COMMAND [OPTIONS]"),
        "",
        *_paragraph("Federated learning as plain commands: one step, one process, one file."),
        *_panels({**panels, "Options": options}),
        "",
        *_paragraph(
            "fedcli COMMAND --help lists the options of a command; fedcli help COMMAND says more"
            " of each."
        ),
    ]


def command_help(
    name: str, text: str, params: Sequence[Any], manual: Manual, page: str, *, whole: bool
) -> list[str]:
    """Return the help of a command with these parameters of typer.

    If it is long, it is in brief unless the ``whole`` is asked for. In brief, an option that is not
    among the first has one line.
    """
    panels = _by_panel(params, manual.first)
    listed = [*_panels(panels)]
    brief = not whole and len(listed) > _LONG
    more = f"fedcli help {name} says more of each option." if brief else ""
    arguments = [one for one in params if one.param_type_name == "argument"]
    usage = " ".join(["fedcli", name, "[OPTIONS]", *map(_argument_words, arguments)])
    summary, *details = text.split("\n\n")
    examples = [f"  {example}" for example in manual.examples]
    return [
        *_heading("Usage", usage),
        "",
        *_paragraph(summary),
        *(line for one in details for line in ("", *_paragraph(one))),
        *(_panels(panels, brief=True) if brief else listed),
        *(["", *_heading("Examples"), *examples] if examples else []),
        "",
        *_paragraph(more),
        *_heading("Page", page),
    ]


def is_coloured() -> bool:
    """Return whether standard output takes colours, by the variables that programs agree on."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    knows_escapes = os.name != "nt" or "WT_SESSION" in os.environ  # of Windows Terminal
    return sys.stdout.isatty() and knows_escapes and os.environ.get("TERM") != "dumb"


def _width() -> int:
    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))


def _styled(text: str, style: str) -> str:
    return f"{_ESCAPES[style]}{text}{_ESCAPES['end']}" if is_coloured() else text


def _heading(word: str, text: str = "") -> list[str]:
    return [f"{_styled(f'{word}:', 'heading')} {text}".rstrip()]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _width(), break_on_hyphens=False)


def _by_panel(params: Iterable[Any], first: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each panel: what one needs first, then panels, then what all have."""
    shown = {_name(one): one for one in params if not one.hidden}
    panels: dict[str, list[Any]] = {_ARGUMENTS: [], _FIRST: [shown[name] for name in first]}
    for name, one in shown.items():
        if name not in first and name not in _LAST:
            panel = _ARGUMENTS if not name.startswith("-") else one.rich_help_panel or _REST
            panels.setdefault(panel, []).append(one)
    last = [*panels.pop(_REST, []), *(shown[name] for name in _LAST if name in shown)]
    return {
        panel: [(_words(one), _meaning(one)) for one in its]
        for panel, its in {**panels, _REST: last}.items()
        if its
    }


def _name(one: Any) -> str:
    return next((word for word in one.opts if word.startswith("--")), str(one.opts[0]))


def _words(one: Any) -> str:
    """Return how an option is typed: ``-r, --run DIR``."""
    if one.param_type_name == "argument":
        return _argument_words(one)
    shorts = [word for word in one.opts if not word.startswith("--")]
    name = f"--[no-]{_name(one)[2:]}" if one.secondary_opts else _name(one)
    metavar = "" if one.is_flag else f" {one.metavar or 'VALUE'}"
    return ", ".join([*shorts, name]) + metavar


def _argument_words(one: Any) -> str:
    word = f"{one.metavar}..." if one.nargs == -1 else str(one.metavar)
    return word if one.required else f"[{word}]"


def _meaning(one: Any) -> str:
    """Return the help of an option, with the default of one that typer knows, and its variable."""
    text = str(one.help).removesuffix(".")
    defaults = [str(one.default)] if _has_default(one) else []
    if one.envvar:
        defaults.append(f"${one.envvar}")
    if not defaults or text.endswith("]"):
        return text
    return f"{text} [{', or '.join(defaults)}]"


def _has_default(one: Any) -> bool:
    usual = one.default
    return bool(usual) and not isinstance(usual, bool) and bool(getattr(one, "show_default", True))


def _panels(panels: Mapping[str, Rows], *, brief: bool = False) -> Iterator[str]:
    width = _width()
    column = 4 + min(_WORDS, max(len(words) for rows in panels.values() for words, _ in rows))
    for name, rows in panels.items():
        yield from ("", *_heading(name))
        for words, meaning in rows:
            start = f"  {words}  ".ljust(column)
            text = _brief(meaning, width - len(start)) if brief and name not in _WHOLE else meaning
            yield from _row(words, start, text, column, width)


def _brief(meaning: str, room: int) -> str:
    """Return as much of a meaning as fits on a line, with its default if that is short."""
    if len(meaning) <= room:
        return meaning
    at = meaning.rindex(" [") if meaning.endswith("]") else len(meaning)
    text, default = meaning[:at], meaning[at:]
    if len(default) <= _SHORT:
        return f"{_shortened(text, room - len(default))}{default}"
    return _shortened(f"{text}{_CUT}", room)


def _shortened(text: str, room: int) -> str:
    """Cut a text to its last clause that ends near the end of the room, or to its last word."""
    if len(text) <= room:
        return text
    ends = [found.start() for found in re.finditer(r"[;:,] | \(", text)]
    clauses = [text[:end] for end in ends if room * 3 // 4 < end <= room - len(_CUT)]
    closed = [clause for clause in clauses if clause.count("(") == clause.count(")")]
    if closed:
        return f"{closed[-1]}{_CUT}"
    return textwrap.shorten(text, room, placeholder=_CUT, break_on_hyphens=False)


def _row(words: str, start: str, meaning: str, column: int, width: int) -> Iterator[str]:
    """Yield the lines of an option; its meaning starts in the same column, or behind it."""
    lines = textwrap.wrap(
        meaning, width, initial_indent=start, subsequent_indent=" " * column, break_on_hyphens=False
    )
    yield lines[0].replace(words, _styled(words, "words"), 1)
    yield from lines[1:]
