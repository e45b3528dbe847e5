"""Names that run code: ``package.module:attribute``, from the command line only."""

import importlib
import sys
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError


def load_attribute(name: str, option: str) -> Any:
    """Import ``package.module:attribute``; the current directory is searched first.

    Raises ``UsageError`` that names the option when there is no such thing.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{option} {name}: {error}") from None
    return value
