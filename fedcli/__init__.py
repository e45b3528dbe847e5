"""Federated learning as plain commands: one step, one process, one file.

Every command is a function here, with the types that it takes and returns; ``__init__.pyi`` lists
them. A name is imported when it is first used, so that ``import fedcli`` costs nothing and what
needs no torch imports none.
"""

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


@cache
def _homes() -> dict[str, str]:
    """Return the module of every name, as the stub beside this file has it."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if name not in _homes():
        raise AttributeError(f"module 'fedcli' has no attribute {name!r}")
    return getattr(importlib.import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted([*_homes(), "__version__"])
