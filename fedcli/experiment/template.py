"""A commented file of an experiment, from the declarations of all options."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.toml import toml_value
from fedcli.options import AUTO, NONE, Declared, Given, default_text

_WIDTH = 88
_ABOUT = (
    "An experiment: for fedcli sweep, and for --plan of fedcli partition, init and run. What is"
    " typed there wins over this file. A line with # before its key has no effect; take it away to"
    " set an option."
)
_EDITOR = (
    "With `fedcli plan --schema > fedcli.schema.json`, and `#:schema ./fedcli.schema.json` as the"
    " first line of this file, editors complete and check it (taplo, Even Better TOML)."
)
_SWEEP = """
# What differs between runs, for fedcli sweep: lists of values, whose product is run. The
# keys are those of the sections above.
# [sweep]
# seed = "0-2"
# lr = [0.01, 0.1]

# What belongs together; each case is run with every combination of the lists.
# [[sweep.case]]
# algorithm = "fedprox"
# mu = 0.1
""".splitlines()


def template(values: Mapping[str, Given] = NONE, remarks: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines of a file with every option, its meaning and its default.

    ``values``, by section and key, replace defaults; None leaves an option to its default.
    ``remarks`` stand at the top.
    """
    for number, paragraph in enumerate((_ABOUT, _EDITOR, *remarks)):
        yield from ["#"] if number else []
        yield from _comment(paragraph)
    for name, options in SECTIONS.items():
        yield ""
        yield from _comment(options.__doc__ or "")
        yield f"[{name}]"
        panel = None
        for key, one in options().items():
            if one.option.panel != panel and (panel := one.option.panel):
                yield from ("", f"# --- {panel} ---")
            yield ""
            yield from _lines(key, one, values.get(name, NONE))
    yield from _SWEEP


def _lines(key: str, one: Declared, values: Given) -> Iterator[str]:
    value = values[key] if key in values else set_by_default(one)
    yield from _comment(explained(one, with_default=value is None))
    yield f"# {key} = {_example(one)}" if value is None else f"{key} = {toml_value(value)}"


def set_by_default(one: Declared) -> Any:
    """Return the default of an option as a file can state it, None if it cannot.

    It cannot where the default depends on other options, which ``unset`` says.
    """
    if one.option.auto and one.default is None:
        return AUTO
    return None if one.default is MISSING or one.option.unset is not None else one.default


def explained(one: Declared, *, with_default: bool) -> str:
    """Return the help of an option, with its choices, and with its default if asked for."""
    text = one.option.help
    choices = [str(choice) for choice in one.option.choices or ()]
    if any(choice not in text for choice in choices):
        text += f" One of {', '.join(choices)}."
    if with_default and (default := default_text(one)):
        text += f" (default: {default})"
    return text.replace("`", "")


def _example(one: Declared) -> str:
    """Return what a value looks like, where none is set: the usual one, or what stands for it."""
    for usual in (one.default, one.usual):
        if usual not in (MISSING, None, (), False):
            return toml_value(usual)
    item = _item(one)
    return f"[{item}]" if one.many else item


def _item(one: Declared) -> str:
    if one.kind is bool:
        return toml_value(True)
    if one.option.choices:
        return toml_value(next(iter(one.option.choices)))
    stands_for = one.option.metavar or "VALUE"
    if one.kind in (str, Path):
        return toml_value(stands_for)
    return f"[{toml_value(stands_for)}]" if one.option.repeat else stands_for


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
