"""A run that each command can do something with, in the current directory."""

import shutil
from pathlib import Path

import pytest
from support.grey_runs import grey_run

from fedcli.run import Run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grey_run(tmp_path_factory.mktemp("runs") / "fedrun").root


@pytest.fixture
def run(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A fresh copy of the template, in the current directory, where commands expect it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, "fedrun")
    return Run.open(Path("fedrun"))
