"""Values as TOML."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def toml_value(value: Any) -> str:
    """Return a boolean, a number, text, a path, or a list of these as TOML writes it.

    Characters that cannot be printed are escaped.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Path):
        return "".join(map(_escaped, json.dumps(str(value), ensure_ascii=False)))
    if isinstance(value, Iterable):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
