"""What typer's completion scripts ask of the program, and how each shell wants the answer.

The scripts, which ``--install-completion`` installs, put the command line into variables.
"""

import shlex
from collections.abc import Mapping, Sequence

from fedcli.completion.candidates import Candidate, candidates

_ASKED = "_FEDCLI_COMPLETE"
_NO_FILES, _FILES = 0, 1  # exit statuses that tell fish whether to complete file names


def answer(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Return what to print and the exit status; None if nobody asks, or in an unknown way."""
    instruction, _, shell = environ.get(_ASKED, "").partition("_")
    if instruction != "complete" or shell not in _ANSWERS:
        return None
    if shell == "bash":
        words, start = _words_of_bash(environ.get("COMP_WORDS", ""), environ.get("COMP_CWORD", ""))
    else:
        words, start = _words_of_line(environ.get("_TYPER_COMPLETE_ARGS", ""))
    found = candidates(words, start, environ)
    text = _ANSWERS[shell](found)
    if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return "", _NO_FILES if found else _FILES
    return text, 0


def _words_of_bash(text: str, number: str) -> tuple[list[str], str]:
    """Return the words before the cursor and the one at it; bash makes words of ``=`` and ``:``."""
    words = text.split("\n") if "\n" in text else text.split()
    at = int(number) if number.isdecimal() else len(words)
    start = _unquoted("".join(words[at : at + 1]))
    before = [_unquoted(word) for word in words[1:at] if word != "="]
    return before, "" if start == "=" else start


def _words_of_line(line: str) -> tuple[list[str], str]:
    """Return the words of a line that ends at the cursor, and the unfinished one."""
    words = _split(line)[1:]
    if not line or line[-1].isspace():
        return words, ""
    return words[:-1], words[-1] if words else ""


def _split(line: str) -> list[str]:
    for end in ("", '"', "'"):  # of a quote that is still open
        try:
            return shlex.split(line + end)
        except ValueError:
            continue
    return line.split()


def _unquoted(word: str) -> str:
    return "".join(_split(word))


def _bash(found: Sequence[Candidate]) -> str:
    """Return one word per line.

    bash puts a space behind the only candidate: where more must follow, a second one prevents it.
    """
    words = [shlex.quote(one.word) if _is_strange(one.word) else one.word for one in found]
    if len(found) == 1 and found[0].goes_on:
        words.append(f"{words[0]}…")
    return "\n".join(words)


def _is_strange(word: str) -> bool:
    """Return whether a shell could take a name for more than a name."""
    return not all(letter.isalnum() or letter in "-_./=:,+%@~" for letter in word)


def _zsh(found: Sequence[Candidate]) -> str:
    """Return commands for zsh, which evaluates them."""
    if not found:
        return "_files"
    if any(one.help for one in found):
        rows = [f"{one.word.replace(':', chr(92) + ':')}:{one.help}" for one in found]
        listed = " ".join(map(shlex.quote, rows))
        return f"local -a fedcli_words; fedcli_words=({listed}); _describe word fedcli_words"
    more = " ".join(shlex.quote(one.word) for one in found if one.goes_on)
    whole = " ".join(shlex.quote(one.word) for one in found if not one.goes_on)
    adds = [f"compadd -U -S '' -- {more}"] if more else []
    return "; ".join([*adds, *([f"compadd -U -- {whole}"] if whole else [])])


def _fish(found: Sequence[Candidate]) -> str:
    return "\n".join(f"{one.word}\t{one.help}" if one.help else one.word for one in found)


def _powershell(found: Sequence[Candidate]) -> str:
    return "\n".join(f"{one.word}:::{one.help or ' '}" for one in found)


_ANSWERS = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
    "powershell": _powershell,
    "pwsh": _powershell,
}
