"""A user's own code, in the current directory as it is for users."""

import sys
from pathlib import Path

import pytest


def write_module(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str) -> None:
    """Write a module to a folder, make that the current one, and forget the import at the end."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, name, raising=False)
