"""Imports the modules of steps that need no torch, before ``fork_server`` forks them.

An entry point, like ``__main__``: only the server imports it. It is for the machine of a ``fedcli
run`` whose clients train elsewhere.
"""

import importlib
import io
from contextlib import redirect_stdout

_MODULES = ("fedcli.steps.aggregate", "fedcli.steps.gc", "fedcli.steps.partition")


def preload() -> None:
    """Import what aggregation and its like need; compute nothing."""
    for name in _MODULES:
        importlib.import_module(name)
    with redirect_stdout(io.StringIO()):  # else steps would print its output
        importlib.import_module("fedcli.cli").execute(["status", "--json"])
