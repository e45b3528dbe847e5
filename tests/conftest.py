"""What several tests need: a small run made without torch, and the program as its users call it."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support import warm
from support.runs import ROLES, deliver, run_info, tensors
from support.thorough import THOROUGH

from fedcli.cli import execute
from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run import Run

if TYPE_CHECKING:
    from support.behind_faults import Commands
    from support.slurm import SlurmCluster

# Test processes run side by side: threads that wait for each other's cores would make them crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script starts what runs in the background, tests too, with interrupts ignored; so would be what
# the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# It would hide what processes print twice, or never.
os.environ.pop("PYTHONUNBUFFERED", None)
# Clients without a private key keep the key of their digests there.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="fedcli-settings-")
# A busy machine is not a fault of the program.
settings.register_profile("same every time", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None)
settings.load_profile("thorough" if THOROUGH else "same every time")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect thousands of tests without looking for garbage among them, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_sessionfinish() -> None:
    """End the process that commands were forked from, and remove what they kept."""
    warm.stop()
    shutil.rmtree(os.environ["XDG_CONFIG_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed does not depend on which tests ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is flushed to the disk, which makes many small files faster."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``fedcli`` in this process; its status and what it printed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        found = execute([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return found, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def behind_faults(tmp_path_factory: pytest.TempPathFactory) -> "Commands":
    """Run ``fedcli`` in forks of a process that has imported torch, behind ``faults``."""
    from support.behind_faults import Commands

    return Commands(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def tiny_run(tmp_path: Path) -> Run:
    """A run with three clients and a starting model, and nothing else."""
    run = Run.create(tmp_path / "fedrun", run_info())
    metadata = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES, seed=0)
    save(run.round(0).global_model, tensors(0), metadata)
    return run


@pytest.fixture
def delivered(tiny_run: Run) -> Run:
    """All three clients have delivered."""
    for client in "012":
        deliver(tiny_run, client, tensors(int(client) + 1))
    return tiny_run


@pytest.fixture(scope="session")
def slurm() -> "Iterator[SlurmCluster]":
    """A Slurm cluster of two nodes on this machine."""
    from support.slurm import slurm_cluster

    with slurm_cluster() as cluster:
        yield cluster
