"""The engine of Slurm, with real daemons: two virtual nodes on this machine."""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.ends import gone
from support.runs import Finished, fedcli
from support.slurm import SlurmCluster, slurm_cluster_with_cgroups, wait_until
from support.thorough import THOROUGH

from fedcli.errors import OutOfMemoryError, StepLostError
from fedcli.execution.slurm_job import lost
from fedcli.execution.slurm_queue import JobState, SlurmQueue
from fedcli.run.round import Round

pytest.importorskip("submitit")

# A client whose name is in a file waits in the middle of its step, and says which process it is.
HELD = """\
import os, sys, time
from pathlib import Path

import torch


def make(num_classes):
    client = sys.argv[sys.argv.index("--id") + 1] if "--id" in sys.argv else "none"
    gate = Path(f"hold-{client}")
    if gate.exists():
        Path("pid.new").write_text(str(os.getpid()))
        Path("pid.new").rename(f"pid-{client}")
    while gate.exists():
        time.sleep(0.05)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, num_classes))
"""
SMALL = ("--model", "held:make", "--limit", "240", "--epochs", "1")
SLURM = ("--executor", "slurm", "--no-evaluate")


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was just made, to be copied, and its model."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "held.py").write_text(HELD)
    done = fedcli("partition", *SMALL, cwd=folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def expected(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The digests of the models of rounds 1 and 2, as trained on this machine."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(cut, folder, dirs_exist_ok=True)
    done = fedcli(*words_of_run(2), "--no-evaluate", "--threads", 1, cwd=folder)
    assert done.status == 0, done.err
    return {number: digest(folder, number) for number in (1, 2)}


@pytest.fixture
def folder(cut: Path, tmp_path: Path) -> Path:
    """A copy of that folder, which is the current one."""
    shutil.copytree(cut, tmp_path, dirs_exist_ok=True)
    return tmp_path


def words_of_run(rounds: int) -> tuple[object, ...]:
    return ("run", "--rounds", rounds, "--model", "held:make")


def digest(folder: Path, number: int) -> str:
    return hashlib.sha256(Round(folder / "fedrun", number).global_model.read_bytes()).hexdigest()


@pytest.fixture
def run(folder: Path, slurm: SlurmCluster) -> Callable[..., Finished]:
    """Run one round, or several, in Slurm."""

    def call(*words: object, rounds: int = 1) -> Finished:
        given = (*words_of_run(rounds), *SLURM, *words)
        return fedcli(*given, cwd=folder, **slurm.environment)

    return call


def jobs_of_fedcli(slurm: SlurmCluster) -> list[str]:
    """The ids of all jobs of the engine."""
    shown = slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i %j")
    rows = [line.split() for line in shown.splitlines()]
    return [job for job, name in rows if name.startswith("fedcli-")]


def hold(folder: Path, *clients: str) -> None:
    for client in clients:
        (folder / f"hold-{client}").touch()


def release(folder: Path) -> None:
    for gate in folder.glob("hold-*"):
        gate.unlink()


def await_process(folder: Path, client: str) -> int:
    """Wait until the step of a client is under way, and return its process."""
    path = folder / f"pid-{client}"
    wait_until(path.exists, lambda: f"client {client} has not begun")
    return int(path.read_text())


def job_of(process: int) -> str:
    """The task of an array that a process belongs to."""
    lines = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    variables = dict(line.partition("=")[::2] for line in lines)
    return f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"


@pytest.fixture
def under_way(
    run: Callable[..., Finished], folder: Path
) -> Iterator[Callable[..., Callable[[], Finished]]]:
    """Start a run, and return what waits for its end."""
    with ThreadPoolExecutor(2) as pool:

        def start(*words: object) -> Callable[[], Finished]:
            return pool.submit(run, *words).result

        yield start
        release(folder)


def test_slurm_makes_the_bytes_of_this_machine_with_an_array_for_each_round(
    run: Callable[..., Finished], slurm: SlurmCluster, expected: dict[int, str], folder: Path
) -> None:
    before = set(jobs_of_fedcli(slurm))
    options = ("--resources", "cpus=1,mem=2GB,time=30m", "--executor-option", "partition=main")
    done = run(*options, rounds=2)
    assert done.status == 0, done.err
    assert digest(folder, 2) == expected[2]
    jobs = set(jobs_of_fedcli(slurm)) - before
    assert len(jobs) == 6
    assert len({job.partition("_")[0] for job in jobs}) == 2
    # Jobs that ended well leave nothing behind, neither in the run nor beside it.
    assert {path.name for path in folder.iterdir()} <= {"fedrun", "held.py", "__pycache__"}
    assert fedcli("verify", "--replay", "--model", "held:make", cwd=folder).status == 0


def test_a_hundred_clients_in_more_jobs_than_one_array_may_have(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    small = ("--model", "linear", "--limit", "200", "--epochs", "1", "--clients", "100")
    for name in ("here", "there"):
        assert fedcli("partition", "--run", name, *small, cwd=tmp_path).status == 0
    words = ("run", "--rounds", 1, "--no-evaluate", "--clients-per-process", 20)
    done = fedcli(*words, "--run", "here", "--threads", 1, cwd=tmp_path)
    assert done.status == 0, done.err
    before = set(jobs_of_fedcli(slurm))
    slurm_words = ("--executor", "slurm", "--run", "there")
    done = fedcli(*words, *slurm_words, cwd=tmp_path, **slurm.environment)
    assert done.status == 0, done.err
    arrays = [job.partition("_")[0] for job in set(jobs_of_fedcli(slurm)) - before]
    assert sorted(map(arrays.count, set(arrays))) == [1, 4]  # of MaxArraySize=4
    here, there = (Round(tmp_path / name, 1).global_model for name in ("here", "there"))
    assert there.read_bytes() == here.read_bytes()


def test_two_drivers_at_once_make_one_result(
    under_way: Callable[..., Callable[[], Finished]], expected: dict[int, str], folder: Path
) -> None:
    for end in [under_way(), under_way()]:
        done = end()
        assert done.status == 0, done.err
    assert digest(folder, 1) == expected[1]
    assert fedcli("verify", cwd=folder).status == 0
    assert not (folder / "fedrun.logs").exists()


def test_the_runs_of_a_sweep_go_to_slurm_together(slurm: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        "[data]\nlimit = 60\n[partition]\nclients = 2\n[model]\nmodel = 'linear'\n"
        "[train]\nepochs = 1\n[run]\nrounds = 1\nevaluate = false\n[sweep]\nseed = [0, 1]\n"
    )
    here = fedcli("sweep", "e.toml", "--out", "here", "--threads", 1, cwd=tmp_path)
    assert here.status == 0, here.err
    words = ("sweep", "e.toml", "--out", "there", "--executor", "slurm")
    there = fedcli(*words, cwd=tmp_path, **slurm.environment)
    assert there.status == 0, there.err
    for seed in ("seed0", "seed1"):
        one, other = (Round(tmp_path / out / seed, 1).global_model for out in ("here", "there"))
        assert one.read_bytes() == other.read_bytes()
    assert not list(tmp_path.glob("there*.logs"))


def test_a_killed_step_is_trained_again(
    under_way: Callable[..., Callable[[], Finished]],
    slurm: SlurmCluster,
    expected: dict[int, str],
    folder: Path,
) -> None:
    hold(folder, "1")
    end = under_way()
    process = await_process(folder, "1")
    # Slurm queues the job of a node that it does not reach again, and its step may end after all.
    name = slurm("squeue", "--noheader", f"--job={job_of(process)}", "--format=%j")
    slurm("sbatch", "--hold", f"--job-name={name}", "--wrap", "true")
    release(folder)
    os.kill(process, signal.SIGKILL)
    done = end()
    assert done.status == 0, done.err
    assert "trying again: train-client on " in done.err
    assert "was ended by SIGKILL" in done.err
    assert digest(folder, 1) == expected[1]
    assert fedcli("verify", cwd=folder).status == 0
    assert slurm.queue() == []


@pytest.mark.parametrize(("quorum", "status"), [((), 1), (("--min-clients", "2"), 0)])
def test_a_job_cancelled_from_outside_is_named_and_may_be_missing(
    under_way: Callable[..., Callable[[], Finished]],
    slurm: SlurmCluster,
    folder: Path,
    quorum: tuple[str, ...],
    status: int,
) -> None:
    hold(folder, "1")
    end = under_way("--retries", "0", *quorum)
    job = job_of(await_process(folder, "1"))
    others = [Round(folder / "fedrun", 1).update(client) for client in "02"]
    wait_until(lambda: all(path.exists() for path in others), lambda: "others have not trained")
    slurm("scancel", job)
    done = end()
    assert done.status == status, done.err
    how = f"Slurm job {job} (train-client) has ended as CANCELLED"
    assert f"client 1, round 1: {how}" in done.err
    assert " CANCELLED AT " in done.err  # the last words of Slurm, not of submitit
    assert Round(folder / "fedrun", 1).global_model.exists() == (status == 0)


def test_the_step_of_a_node_that_fails_goes_to_another(
    under_way: Callable[..., Callable[[], Finished]],
    slurm: SlurmCluster,
    expected: dict[int, str],
    folder: Path,
) -> None:
    hold(folder, "1")
    end = under_way("--executor-option", "no_requeue=true")  # else Slurm waits two minutes
    job = job_of(await_process(folder, "1"))
    node = slurm("squeue", "--noheader", f"--job={job}", "--format=%N")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        release(folder)
        done = end()
    finally:
        # A node whose daemon answers may have returned by itself, and then refuses to resume.
        if "down" in slurm("sinfo", "--noheader", f"--nodes={node}", "--format=%T"):
            slurm("scontrol", "update", f"nodename={node}", "state=resume")
    assert done.status == 0, done.err
    assert f"trying again: Slurm job {job} (train-client) has ended as NODE_FAIL" in done.err
    assert digest(folder, 1) == expected[1]


def test_a_driver_that_is_a_job_takes_the_jobs_of_its_steps_with_it(
    slurm: SlurmCluster, folder: Path
) -> None:
    hold(folder, "1")
    words = [sys.executable, "-m", "fedcli", *map(str, words_of_run(1)), *SLURM]
    options = ("--parsable", f"--chdir={folder}", "--mem=500M", "--output=driver.log")
    driver = slurm("sbatch", *options, "--wrap", f"exec {shlex.join(words)}")
    step = await_process(folder, "1")
    slurm("scancel", driver)
    slurm.wait_until_empty()
    assert "ExitCode=130:0" in slurm("scontrol", "show", "job", driver)
    assert (folder / "driver.log").read_text().endswith("error: interrupted\n")
    assert gone(step)
    assert not (folder / "fedrun.logs").exists()


def test_an_interrupt_cancels_every_job_and_the_same_command_resumes(
    run: Callable[..., Finished], slurm: SlurmCluster, expected: dict[int, str], folder: Path
) -> None:
    hold(folder, "1", "2")
    words = [sys.executable, "-m", "fedcli", *map(str, words_of_run(1)), *SLURM]
    variables = {**os.environ, **slurm.environment}
    process = subprocess.Popen(
        words, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    steps = [await_process(folder, client) for client in "12"]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert slurm.queue() == []
    assert not [step for step in steps if Path(f"/proc/{step}").exists()]
    assert not (folder / "fedrun.logs").exists()
    release(folder)
    done = run()
    assert done.status == 0, done.err
    assert digest(folder, 1) == expected[1]


def test_a_step_above_its_memory_ends_with_6(run: Callable[..., Finished]) -> None:
    done = run("--resources", "mem=100MB")
    assert done.status == 6, done.err
    assert "hint: --resources mem=… gives it more" in done.err


@pytest.mark.skipif(not THOROUGH, reason="takes half a minute: FEDCLI_THOROUGH=1")
def test_a_job_at_its_limit_of_time_is_named(
    under_way: Callable[..., Callable[[], Finished]], slurm: SlurmCluster, folder: Path
) -> None:
    hold(folder, "1")
    end = under_way("--retries", "0")
    job = job_of(await_process(folder, "1"))
    slurm("scontrol", "update", f"jobid={job}", "timelimit=1")
    slurm("scontrol", "update", f"jobid={job}", "endtime=now")  # noticed within 30 s
    done = end()
    assert done.status == 1, done.err
    assert f"Slurm job {job} (train-client) has ended as TIMEOUT on n" in done.err
    assert " DUE TO TIME LIMIT " in done.err
    assert "hint: --resources time=… gives it longer" in done.err


@pytest.mark.skipif(not THOROUGH, reason="takes half a minute: FEDCLI_THOROUGH=1")
def test_a_step_that_the_kernel_kills_for_its_memory_ends_with_6(folder: Path) -> None:
    greedy = HELD.replace("return ", "bytearray(bytes([1]) * 2**31)\n    return ")
    (folder / "held.py").write_text(greedy)
    with slurm_cluster_with_cgroups() as cluster:
        words = (*words_of_run(1), *SLURM, "--resources", "mem=1GB")
        done = fedcli(*words, cwd=folder, **cluster.environment)
    assert done.status == 6, done.err
    assert " (train-client) has ended as OUT_OF_MEMORY on n" in done.err
    assert "hint: --resources mem=… gives it more" in done.err


def test_a_watch_that_breaks_leaves_no_step_without_an_end(
    slurm: SlurmCluster, folder: Path, cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def broken(queue: SlurmQueue) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(SlurmQueue, "states", broken)
    monkeypatch.setattr(SlurmQueue, "cancel", lambda queue: slurm("scancel", f"-n{queue.name}"))
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.chdir(folder)
    hold(folder, "1")
    status, _, said = cli(*words_of_run(1), *SLURM)
    assert status == 1
    assert "the jobs of Slurm are not watched: RuntimeError: no such luck" in said
    slurm.wait_until_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--executor-option", "partition=nowhere"), "invalid partition specified: nowhere"),
        (("--resources", "gpu=1"), "Invalid generic resource (gres) specification"),
        (("--executor-option", "partitoin=main"), "unrecognized option '--partitoin=main'"),
    ],
)
def test_a_job_that_sbatch_refuses_is_a_mistake_of_usage(
    run: Callable[..., Finished], options: tuple[str, ...], said: str
) -> None:
    done = run(*options)
    assert done.status == 2, done.err
    assert f"sbatch refused the job: {said}" in done.err


def test_without_slurm_nothing_is_ready(folder: Path, tmp_path: Path) -> None:
    words = (*words_of_run(1), *SLURM)
    done = fedcli(*words, cwd=folder, PATH=str(tmp_path))
    assert (done.status, done.err.partition("\n")[0]) == (
        3, "error: --executor slurm: there is no sbatch"
    )  # fmt: skip


def test_without_a_controller_nothing_is_ready(folder: Path) -> None:
    for name in ("sbatch", "scontrol"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        said = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"
        program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        program.chmod(0o755)
    done = fedcli(*words_of_run(1), *SLURM, cwd=folder, PATH=f"{folder}/bin:{os.environ['PATH']}")
    assert done.status == 3, done.err
    said = "error: --executor slurm: Slurm does not answer: Unable to contact slurm controller"
    assert said in done.err


def test_without_submitit_the_extra_is_named(
    folder: Path, slurm: SlurmCluster, cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.chdir(folder)
    status, _, said = cli(*words_of_run(1), *SLURM)
    assert status == 1
    assert "error: --executor slurm needs the package submitit" in said
    assert "hint: pip install 'fedcli[slurm]'" in said


def test_a_name_after_slurm_is_refused(folder: Path) -> None:
    done = fedcli(*words_of_run(1), "--executor", "slurm:main", cwd=folder)
    assert done.status == 2, done.err
    assert "error: --executor: expected slurm, found 'slurm:main'" in done.err


@pytest.mark.parametrize(
    ("state", "log", "kind", "hint"),
    [
        ("TIMEOUT", "", StepLostError, "--resources time=…"),
        ("NODE_FAIL", "", StepLostError, "its log: "),
        ("OUT_OF_MEMORY", "", OutOfMemoryError, "--resources mem=…"),
        ("FAILED", "slurmstepd: error: Exceeded job memory limit", OutOfMemoryError, "mem=…"),
        ("FAILED", "ModuleNotFoundError: no fedcli", StepLostError, "its log: "),
    ],
)
def test_the_end_of_a_job_without_an_answer(
    state: str, log: str, kind: type[Exception], hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    error = lost("train-client", "7_1", JobState(state, "n1"), path)
    assert type(error) is kind
    assert f"Slurm job 7_1 (train-client) has ended as {state} on n1" in error.message
    assert log in error.message
    assert hint in (error.hint or "")


@pytest.mark.skipif(find_spec("distributed") is None, reason="not installed: distributed")
def test_dask_workers_in_jobs_make_the_bytes_of_this_machine(
    folder: Path, slurm: SlurmCluster, expected: dict[int, str], tmp_path: Path
) -> None:
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, *options, "--scheduler-file", str(file)])
    try:
        wait_until(file.exists, lambda: "the scheduler has not begun")
        worker = (
            f"{sys.executable} -m distributed.cli.dask_worker --scheduler-file {file}"
            " --host 127.0.0.1 --nworkers 1 --nthreads 1 --no-dashboard --memory-limit 0"
        )
        slurm("sbatch", "--array=1-2", "--output=/dev/null", f"--chdir={folder}", "--wrap", worker)
        words = (*words_of_run(2), "--no-evaluate", "--executor", f"dask:{file}")
        done = fedcli(*words, cwd=folder)
        assert done.status == 0, done.err
        assert digest(folder, 2) == expected[2]
    finally:
        slurm("scancel", "--full", *slurm.queue())
        slurm.wait_until_empty()
        scheduler.terminate()
        scheduler.wait(60)
