"""Federated learning as plain commands: one step, one process, one file.

Every command is a function here, with the types that it takes and returns; ``__init__.pyi`` lists
them. A name is imported when it is first used, so that ``import fedcli`` costs nothing and what
needs no torch imports none.
"""

from functools import cache
from typing import Any

__version__ = "0.2.0"


@cache
def _homes() -> dict[str, str]:
    """Return the module of every name, as the stub beside this file has it."""
    import ast  # only for those who use a name: the program does not
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _homes():
        raise AttributeError(f"module 'fedcli' has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted([*_homes(), "__version__"])
