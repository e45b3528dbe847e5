"""Imports the modules of steps before ``fork_server`` forks them.

An entry point, like ``__main__``: only the server imports it.
"""

import importlib
import io
from contextlib import redirect_stdout

from fedcli.models import MODELS

# Steps are command lines of this module, imported by name as by `python -m`.
_PROGRAM = "fedcli.cli"
# Modules that steps import, at their start or later.
_MODULES = (
    "fedcli.evaluation.scorer",
    "fedcli.steps.aggregate",
    "fedcli.steps.evaluate",
    "fedcli.steps.status",
    "fedcli.steps.train_client",
)


def preload(*models: str) -> None:
    """Import what the steps of runs with these models need; compute nothing."""
    for name in _MODULES:
        importlib.import_module(name)
    if any(model not in MODELS and ":" not in model for model in models):
        importlib.import_module("fedcli.models.from_torchvision")
    with redirect_stdout(io.StringIO()):  # else steps would print its output
        program = importlib.import_module(_PROGRAM)
        # typer imports most of what it needs at the first command
        program.execute(["status", "--json"])
