"""Build the catalogue of completion from the declarations of all commands."""

import json
from collections.abc import Iterator
from typing import Any

from fedcli.cli.options.groups import declarations_of
from fedcli.cli.program import COMMANDS, command_function, command_of, summary
from fedcli.options import Declared

# What a value names of a run, by the words of options and the names of arguments.
_OF_A_RUN = {
    **dict.fromkeys(("--run", "--of", "--data-of", "RUN"), "runs"),
    **dict.fromkeys(("--id", "--exclude", "MEMBER"), "clients"),
    "--round": "rounds",
}
_MOST_HELP = 60  # characters


def catalogue_text() -> str:
    """Return the catalogue as JSON with one option per line."""
    lists: dict[str, list[str]] = {}
    commands = {name: _command(name, lists) for name in COMMANDS}
    lines = ["{", '"commands": {']
    for command, row in commands.items():
        lines.append(f"{_json(command)}: {{")
        lines += [f"{_json(key)}: {_json(row[key])}," for key in ("summary", "argument")]
        lines += ['"options": {', *_lines(row["options"]), "}", "},"]
    lines[-1] = "}"
    return "\n".join([*lines, "},", '"words": {', *_lines(lists), "}", "}", ""])


def _lines(rows: dict[str, Any]) -> Iterator[str]:
    for at, (name, row) in enumerate(rows.items(), 1):
        yield f"{_json(name)}: {_json(row)}{',' if at < len(rows) else ''}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _command(name: str, lists: dict[str, list[str]]) -> dict[str, Any]:
    declarations = declarations_of(command_function(name))
    built = command_of(name)
    params = built.get_params(built.make_context(name, [], resilient_parsing=True))
    options: dict[str, dict[str, Any]] = {}
    argument: dict[str, Any] = {}
    for one in params:
        if one.param_type_name == "argument":
            argument = argument or _of_a_run(str(one.metavar))
            continue
        word = next(word for word in one.opts if word.startswith("--"))
        row = _option(one, word, declarations.get(word), lists)
        options[word] = {**row, **_of_a_run(word)}
    return {"summary": summary(name), "argument": argument, "options": options}


def _of_a_run(word: str) -> dict[str, Any]:
    named = _OF_A_RUN.get(word)
    return {"from": named, **({"list": True} if named == "clients" else {})} if named else {}


def _option(
    one: Any, word: str, declared: Declared | None, lists: dict[str, list[str]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"help": _brief(one.help)}
    if also := [other for other in one.opts if other != word]:
        row["also"] = also
    if one.secondary_opts:
        row["off"] = one.secondary_opts[0]
    if not one.is_flag:
        row["takes"] = one.metavar or "VALUE"
    if declared is not None and declared.known and not one.is_flag:
        row["words"] = _list_name(word.removeprefix("--"), list(declared.known), lists)
        if declared.many or one.multiple:
            row["list"] = True
    return row


def _list_name(name: str, words: list[str], lists: dict[str, list[str]]) -> str:
    """Return the name of a list of words, which is noted if it is new."""
    for known, its in lists.items():
        if its == words:
            return known
    while name in lists:
        name += "-"
    lists[name] = words
    return name


def _brief(text: str) -> str:
    """Return the start of a help text, up to its end, a semicolon or a word."""
    start = text.partition(" [")[0].partition(";")[0].removesuffix(".")
    return start if len(start) <= _MOST_HELP else f"{start[:_MOST_HELP].rpartition(' ')[0]} …"
