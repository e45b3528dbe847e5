"""A real Dask scheduler with two workers: same models, lost workers, interruption, errors."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemons import dask_cluster
from support.ends import gone
from support.runs import Finished, fedcli

import fedcli as package
from fedcli import __version__
from fedcli.formats.manifest import Manifest
from fedcli.run import Run
from fedcli.run.round import Round

PATIENCE = 60.0  # seconds
SMALL = ("--limit", "60", "--epochs", "1")
# A network that does in the process of one client what the file ``victim`` says: it ends its
# process, or tells who it is and waits for the file ``go``.
NETWORK = """
import os, sys, time
from pathlib import Path
import torch

def net(num_classes):
    told = Path("victim").read_text().split() if Path("victim").exists() else [None, None]
    if "--id" in sys.argv and sys.argv[sys.argv.index("--id") + 1] == told[1]:
        if told[0] == "die":
            os.kill(os.getpid(), 9)
        Path("victim").unlink()
        Path("told").write_text(f"{os.getpid()} {os.getppid()}")
        Path("told").rename("began")
        while not Path("go").exists():
            time.sleep(0.02)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with dask_cluster(tmp_path_factory.mktemp("dask")) as file:
        yield file


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of one's own, and a run of it that was just made."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "mine.py").write_text(NETWORK)
    done = fedcli("partition", *SMALL, "--model", "mine:net", cwd=folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def expected(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of round 1, of clients that trained on this machine."""
    folder = shutil.copytree(cut, tmp_path_factory.mktemp("local") / "here")
    done = fedcli(*WORDS, "--threads", 1, cwd=folder)
    assert done.status == 0, done.err
    return model(folder)


@pytest.fixture
def folder(cut: Path, tmp_path: Path) -> Path:
    return shutil.copytree(cut, tmp_path / "here")


WORDS = ("run", "--rounds", 1, "--model", "mine:net")


@pytest.fixture
def run(folder: Path, cluster: Path) -> Callable[..., Finished]:
    return lambda *words: fedcli(*WORDS, "--executor", f"dask:{cluster}", *words, cwd=folder)


@pytest.fixture
def driver(folder: Path, cluster: Path) -> Callable[[], subprocess.Popen[str]]:
    """Start the command without waiting for it."""
    return lambda: started(folder, cluster)


def started(folder: Path, cluster: Path, *options: str) -> subprocess.Popen[str]:
    words = [*map(str, WORDS), "--executor", f"dask:{cluster}", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "fedcli", *words], cwd=folder, stderr=subprocess.PIPE, text=True
    )


def model(folder: Path) -> bytes:
    return Round(folder / "fedrun", 1).global_model.read_bytes()


def began(folder: Path) -> tuple[int, int]:
    """Wait for the step that waits; return its process, and that which it was forked from."""
    deadline = time.monotonic() + PATIENCE
    while not (folder / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    step, server = map(int, (folder / "began").read_text().split())
    return step, server


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_workers_make_the_bytes_of_this_machine(
    run: Callable[..., Finished], folder: Path, expected: bytes
) -> None:
    done = run()
    assert done.status == 0, done.err
    assert "round 1/1 done  test loss" in done.err
    assert model(folder) == expected
    assert all(Round(folder / "fedrun", number).evaluation.exists() for number in (0, 1))
    again = run()
    assert (again.status, again.out.splitlines()[0]) == (0, "1 rounds are complete already.")


def test_a_step_of_a_killed_worker_is_done_by_another_one(
    folder: Path, driver: Callable[[], subprocess.Popen[str]], expected: bytes
) -> None:
    (folder / "victim").write_text("wait 1")
    process = driver()
    step, server = began(folder)
    os.kill(parent(server), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert gone(step, server)
    assert model(folder) == expected
    assert fedcli("verify", cwd=folder).status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_running_steps_count_and_the_run_can_be_resumed(
    folder: Path,
    run: Callable[..., Finished],
    driver: Callable[[], subprocess.Popen[str]],
    expected: bytes,
    number: int,
) -> None:
    (folder / "victim").write_text("wait 2")
    process = driver()
    step, _ = began(folder)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (folder / "go").touch()
    assert gone(step)
    assert Round(folder / "fedrun", 1).update("2").exists()
    done = run()
    assert done.status == 0, done.err
    assert model(folder) == expected


def test_processes_of_an_executor_end_with_the_driver(folder: Path) -> None:
    (folder / "victim").write_text("wait 2")
    words = [*map(str, WORDS), "--executor", "concurrent.futures:ProcessPoolExecutor"]
    process = subprocess.Popen([sys.executable, "-m", "fedcli", *words], cwd=folder)
    step, server = began(folder)
    pool = parent(server)
    process.terminate()
    assert process.wait(PATIENCE) == 130
    assert gone(step, server, pool)


def test_two_drivers_at_once_make_one_result(
    folder: Path, driver: Callable[[], subprocess.Popen[str]], expected: bytes
) -> None:
    both = [driver(), driver()]
    said = [process.communicate(timeout=PATIENCE)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert model(folder) == expected
    assert fedcli("verify", cwd=folder).status == 0


def test_a_step_reports_its_error_as_on_this_machine(
    run: Callable[..., Finished], folder: Path
) -> None:
    shard = Run.open(folder / "fedrun").client_shard("1")
    shard.write_bytes(shard.read_bytes()[:1000])
    here = fedcli(*WORDS, "--json", cwd=folder)
    there = run("--json")
    assert here.status == there.status == 4
    one, other = (json.loads(done.out)["error"] for done in (here, there))
    assert one["message"].startswith("client 1, round 1: ")
    assert other["message"].replace(f"{folder}/", "") == one["message"]
    assert other["client"] == one["client"] == "1"


def test_a_client_whose_step_is_lost_is_missing(run: Callable[..., Finished], folder: Path) -> None:
    (folder / "victim").write_text("die 1")
    done = run("--retries", 1)
    assert done.status == 1
    assert done.err.count("trying again: train-client on ") == 1
    assert "error: client 1, round 1: train-client on " in done.err
    assert "was ended by SIGKILL" in done.err
    done = run("--retries", 0, "--min-clients", 2)
    assert done.status == 0, done.err
    manifest = Manifest.read(Round(folder / "fedrun", 1).manifest)
    assert manifest is not None
    assert [one.client for one in manifest.missing] == ["1"]


def test_when_the_scheduler_is_killed_the_run_ends_and_another_one_resumes_it(
    folder: Path, tmp_path: Path, run: Callable[..., Finished], expected: bytes
) -> None:
    (folder / "victim").write_text("wait 1")
    with dask_cluster(tmp_path) as file:
        patient = started(folder, file, "--executor-option", "timeout=60")
        step, server = began(folder)
        (folder / "began").unlink()
        (folder / "victim").write_text("wait 1")
        impatient = started(folder, file, "--executor-option", "timeout=2")
        began(folder)
        os.kill(int((tmp_path / "scheduler.pid").read_text()), signal.SIGKILL)
        _, err = impatient.communicate(timeout=PATIENCE)
        patient.terminate()  # while it tries to reach the scheduler
        _, interrupted = patient.communicate(timeout=PATIENCE)
        (folder / "go").touch()
        assert gone(step, server)
    assert impatient.returncode == 3, err
    said = f"--executor dask:{file}: the scheduler has gone: it has not answered for 2 s"
    assert f"round 1: {said}" in err
    assert "hint: start it and its workers; the same command continues" in err
    beginnings = ("trying again: ", "round 1  client ", "error: ", "hint: ")
    assert all(line.startswith(beginnings) for line in err.splitlines()), err
    assert (patient.returncode, "mistake" in interrupted) == (130, False), interrupted
    done = run()
    assert done.status == 0, done.err
    assert model(folder) == expected


def test_workers_open_a_masked_sum_to_the_bytes_of_this_machine(
    cluster: Path, tmp_path: Path
) -> None:
    masked = ("--model", "linear", "--clients", "3", "--secagg", "--secagg-clip", "0.5")
    assert fedcli("partition", *SMALL, *masked, "--run", "here", cwd=tmp_path).status == 0
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    words = ("run", "--rounds", 1, "--no-evaluate", "--run")
    places = {"here": ("--threads", 1), "there": ("--executor", f"dask:{cluster}")}
    for name, place in places.items():
        done = fedcli(*words, name, *place, cwd=tmp_path)
        assert done.status == 0, done.err
    here, there = (Round(tmp_path / name, 1).global_model for name in places)
    assert there.read_bytes() == here.read_bytes()


def test_a_worker_with_another_version_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "fedcli"
    shutil.copytree(Path(package.__file__).parent, other)
    code = (other / "__init__.py").read_text()
    (other / "__init__.py").write_text(code.replace(__version__, "0.0.1"))
    with monkeypatch.context() as workers:
        workers.setenv("PYTHONPATH", str(other.parent), prepend=os.pathsep)
        with dask_cluster(tmp_path, 1) as file:
            workers.undo()
            done = fedcli(*WORDS, "--executor", f"dask:{file}", cwd=folder)
    assert done.status == 3, done.err
    said = f"on {socket.gethostname()}: expected fedcli {__version__}, found 0.0.1"
    assert re.search(rf"error: worker tcp://127\.0\.0\.1:\d+ {re.escape(said)}", done.err)
    assert f"hint: install fedcli {__version__} there" in done.err


def test_workers_have_to_offer_what_a_step_needs(
    run: Callable[..., Finished], folder: Path, tmp_path: Path
) -> None:
    refused = run("--resources", "gpu=1")
    assert refused.status == 3
    assert "--resources gpu: no worker offers 1" in refused.err
    with dask_cluster(tmp_path, 1, "--resources", "GPU=1 MEM=8e9") as file:
        one = fedcli(
            *(*WORDS, "--executor", f"dask:{file}"), *("--resources", "gpu=1,mem=8GB"), cwd=folder
        )
    assert one.status == 0, one.err


def test_there_has_to_be_a_scheduler_and_a_worker(folder: Path, tmp_path: Path) -> None:
    impatient = ("--executor-option", "timeout=1")
    none = fedcli(*WORDS, "--executor", "dask:127.0.0.1:9", *impatient, cwd=folder)
    assert none.status == 3
    assert "no scheduler answers" in none.err
    none = fedcli(*WORDS, "--executor", "dask:s.json", *impatient, cwd=folder)
    assert none.status == 3
    assert "there is no such file" in none.err
    with dask_cluster(tmp_path, workers=0) as file:
        idle = fedcli(*WORDS, "--executor", f"dask:{file}", *impatient, cwd=folder)
    assert idle.status == 3
    assert "no worker within 1 s" in idle.err
    assert "Traceback" not in idle.err
