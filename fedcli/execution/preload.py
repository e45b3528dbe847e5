"""What steps import, imported before they are forked from ``fork_server``.

An entry point, like ``__main__``: only the server imports it.
"""

import importlib
import io
from contextlib import redirect_stdout

from fedcli.models import MODELS

# Steps are command lines of this program, which is known by its name here as in `python -m`.
_PROGRAM = "fedcli.cli"
# What steps import at their start, or where they first need it.
_MODULES = (
    "fedcli.evaluation.scorer",
    "fedcli.steps.aggregate",
    "fedcli.steps.evaluate",
    "fedcli.steps.status",
    "fedcli.steps.train_client",
)


def preload(model: str) -> None:
    """Import what the steps of a run need, whose model has this name; nothing is computed."""
    for name in _MODULES:
        importlib.import_module(name)
    if model not in MODELS and ":" not in model:
        importlib.import_module("fedcli.models.from_torchvision")
    with redirect_stdout(io.StringIO()):  # else steps would begin with what it prints
        program = importlib.import_module(_PROGRAM)
        program.execute(
            ["status", "--json"]
        )  # typer imports most of what it needs at the first command
