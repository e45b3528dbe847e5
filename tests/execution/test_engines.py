"""Engines: the same models wherever clients train, and what each place refuses."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import Finished, fedcli

from fedcli.run.round import Round

SMALL = ("--model", "linear", "--limit", "240", "--epochs", "1")
THREADS = "concurrent.futures:ThreadPoolExecutor"
PROCESSES = "concurrent.futures:ProcessPoolExecutor"


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was just made, to be copied."""
    folder = tmp_path_factory.mktemp("cut")
    done = fedcli("partition", *SMALL, cwd=folder)
    assert done.status == 0, done.err
    return folder / "fedrun"


@pytest.fixture(scope="module")
def expected(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the model of round 2, as trained on this machine."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(cut, folder / "fedrun")
    done = fedcli("run", "--rounds", 2, "--threads", 1, cwd=folder)
    assert done.status == 0, done.err
    return digest(folder)


@pytest.fixture
def run(cut: Path, tmp_path: Path) -> Callable[..., Finished]:
    shutil.copytree(cut, tmp_path / "fedrun")
    return lambda *words: fedcli("run", "--rounds", 2, *words, cwd=tmp_path)


def digest(folder: Path) -> str:
    model = Round(folder / "fedrun", 2).global_model
    return hashlib.sha256(model.read_bytes()).hexdigest()


@pytest.mark.parametrize("factory", [THREADS, PROCESSES])
def test_any_executor_makes_the_bytes_of_this_machine(
    run: Callable[..., Finished], factory: str, expected: str, tmp_path: Path
) -> None:
    done = run("--executor", factory, "--executor-option", "max_workers=2")
    assert done.status == 0, done.err
    assert "round 2/2 done" in done.err
    assert digest(tmp_path) == expected
