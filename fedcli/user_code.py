"""User code, named ``package.module:attribute`` on the command line only."""

import importlib
import sys
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError

SHOW_WHERE = "--debug shows where in your code"


def load_attribute(name: str, option: str) -> Any:
    """Import ``package.module:attribute``; the current directory is searched first.

    Raises ``UsageError`` that names the option if the attribute does not exist, or if importing the
    module raises anything.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{option} {name}: cannot be imported: {in_one_line(error)}", hint=SHOW_WHERE
        ) from error
    return value


def in_one_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
