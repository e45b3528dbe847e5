"""The page on schedulers and its examples, with the real programs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pages import ROOT, blocks, environment, run_shell
from support.runs import fedcli
from support.slurm import SlurmCluster

EXAMPLES = ROOT / "examples" / "schedulers"
PAGE = ROOT / "docs" / "schedulers.md"
SMALL = ("--limit", "120", "--model", "linear", "--epochs", "1")


def partition(folder: Path, name: str, *arguments: str) -> Path:
    """Make a small run."""
    done = fedcli("partition", "--run", name, *SMALL, *arguments, cwd=folder)
    assert done.status == 0, done.err
    return folder / name


def assert_same_bytes_as_typed(run: Path, *arguments: str, rounds: int) -> None:
    """A run by hand on this machine, with one thread a client, gives the same models."""
    typed = partition(run.parent, "typed", *arguments)
    words = ("run", "--rounds", rounds, "--threads", "1", "--no-evaluate", "--run", typed)
    assert fedcli(*words, cwd=run.parent).status == 0
    for number in range(rounds + 1):
        model = f"rounds/{number:04d}/global.safetensors"
        assert (run / model).read_bytes() == (typed / model).read_bytes(), model


def modification_times(run: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def rounds_trained(text: str) -> list[str]:
    """The rounds that calls of train-client name in what a program printed."""
    lines = [line for line in text.splitlines() if "fedcli train-client --run" in line]
    return [line.partition("--round ")[2].split()[0] for line in lines]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    """Run the example's Makefile; what it printed."""
    if shutil.which("make") is None:
        pytest.skip("there is no make (Debian: make)")

    def call(*arguments: str) -> str:
        return run_shell(f"make -f '{EXAMPLES}/Makefile' {' '.join(arguments)}", tmp_path)

    return call


def test_make_trains_the_sampled_clients_of_each_round_once(
    make: Callable[..., str], tmp_path: Path
) -> None:
    sampling = ("--clients", "4", "--clients-per-round", "2")
    run = partition(tmp_path, "fedrun", *sampling)
    assert rounds_trained(make("ROUNDS=2", "-j2")) == ["1", "1", "2", "2"]
    assert_same_bytes_as_typed(run, *sampling, rounds=2)
    before = modification_times(run)
    assert "Nothing to be done" in make("ROUNDS=2")
    assert modification_times(run) == before


def test_make_does_not_train_a_complete_round_again_after_gc(
    make: Callable[..., str], tmp_path: Path
) -> None:
    run = partition(tmp_path, "fedrun", "--clients", "2")
    make("ROUNDS=2")
    assert fedcli("gc", "--keep-last", 1, cwd=tmp_path).status == 0
    assert not (run / "rounds" / "0001" / "updates" / "0.safetensors").exists()
    assert "Nothing to be done" in make("ROUNDS=2")
    assert rounds_trained(make("ROUNDS=3")) == ["3", "3"]


@pytest.fixture
def snakemake(tmp_path: Path) -> Callable[..., str]:
    """Run the example's Snakefile; what it printed."""
    own = Path(sys.prefix) / "schedulers" / "bin" / "snakemake"
    program = str(own) if own.exists() else shutil.which("snakemake")
    if program is None:
        pytest.skip("there is no snakemake (pip install snakemake)")

    def call(*arguments: str) -> str:
        words = f"'{program}' -s '{EXAMPLES}/Snakefile' --cores 2 --rerun-triggers mtime"
        return run_shell(f"{words} {' '.join(arguments)}", tmp_path, XDG_CACHE_HOME=str(tmp_path))

    return call


def test_snakemake_trains_each_round_once_and_survives_gc(
    snakemake: Callable[..., str], tmp_path: Path
) -> None:
    sampling = ("--clients", "3", "--clients-per-round", "2")
    run = partition(tmp_path, "fedrun", *sampling)
    snakemake("--config", "rounds=2")
    assert_same_bytes_as_typed(run, *sampling, rounds=2)
    assert fedcli("gc", "--keep-last", 1, cwd=tmp_path).status == 0
    before = modification_times(run)
    assert "Nothing to be done" in snakemake("--config", "rounds=2")
    assert modification_times(run) == before
    planned = snakemake("--dryrun", "--printshellcmds", "--config", "rounds=3")
    assert rounds_trained(planned) == ["0003", "0003"]


def in_slurm(
    cluster: SlurmCluster, script: str, folder: Path, **variables: str
) -> tuple[str, list[str]]:
    """Run a script that submits jobs and wait for them; what it printed, and how they ended."""
    before = set(all_jobs(cluster))
    printed = run_shell(script, folder, **cluster.environment, **variables)
    cluster.wait_until_empty()
    return printed, [state for job, state in all_jobs(cluster).items() if job not in before]


def all_jobs(cluster: SlurmCluster) -> dict[str, str]:
    """The state of every job and task of an array that the controller remembers."""
    lines = cluster(
        "squeue", "--noheader", "--array", "--states=all", "--format=%i %T"
    ).splitlines()
    return dict(line.split() for line in lines)


def test_slurm_trains_the_sampled_clients_in_arrays(slurm: SlurmCluster, tmp_path: Path) -> None:
    sampling = ("--clients", "4", "--clients-per-round", "3")
    run = partition(tmp_path, "fedrun", *sampling)
    script = f"sh '{EXAMPLES}/slurm.sh' 2 --cpus-per-task=1"
    _, states = in_slurm(slurm, script, tmp_path, OMP_NUM_THREADS="2")  # of the login node
    logs = "\n".join(log.read_text() for log in (tmp_path / "fedrun.logs").glob("*.log"))
    assert states == ["COMPLETED"] * 8, logs
    assert_same_bytes_as_typed(run, *sampling, rounds=2)
    before = modification_times(run)
    printed, states = in_slurm(slurm, script, tmp_path)
    assert (printed, states, modification_times(run)) == ("", [], before)


def test_a_failed_client_leaves_nothing_in_the_queue_of_slurm(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    run = partition(tmp_path, "fedrun", "--clients", "2")
    (run / "data" / "client-1.safetensors").write_bytes(b"no shard")
    _, states = in_slurm(slurm, f"sh '{EXAMPLES}/slurm.sh' 2", tmp_path)
    assert sorted(states) == ["CANCELLED"] * 4 + ["COMPLETED", "FAILED"]
    assert not (run / "rounds" / "0001" / "global.safetensors").exists()
    # With a quorum the round goes on without that client.
    in_slurm(slurm, f"sh '{EXAMPLES}/slurm.sh' 1", tmp_path, QUORUM="1")
    manifest = json.loads((run / "rounds" / "0001" / "aggregate.json").read_text())
    assert [entry["client"] for entry in manifest["accepted"]] == ["0"]


def test_the_array_of_a_sweep_runs_in_slurm(slurm: SlurmCluster, tmp_path: Path) -> None:
    file = "[data]\nlimit = 60\n[model]\nmodel = 'linear'\n[train]\nepochs = 1\n[run]\nrounds = 1\n"
    lists = "evaluate = false\n[partition]\nclients = 2\n[sweep]\nseed = [0, 1]\n"
    (tmp_path / "experiment.toml").write_text(file + lists)
    (block,) = blocks(ROOT / "docs" / "commands" / "sweep.md", "bash")
    _, states = in_slurm(slurm, block.text, tmp_path)
    logs = "\n".join(log.read_text() for log in tmp_path.glob("slurm-*.out"))
    assert states == ["COMPLETED"] * 2, logs
    words = ("sweep", "experiment.toml", "--out", "here", "--threads", 1)
    assert fedcli(*words, cwd=tmp_path).status == 0
    for seed in ("seed0", "seed1"):
        model = f"{seed}/rounds/0001/global.safetensors"
        there = tmp_path / "experiment" / model
        assert there.read_bytes() == (tmp_path / "here" / model).read_bytes()


def test_the_commands_of_the_page_run_in_slurm(slurm: SlurmCluster, tmp_path: Path) -> None:
    partition(tmp_path, "fedrun", "--clients", "2")
    named = (
        "--model",
        "linear",
        "--clients",
        "mercy,charite",
        "--classes",
        "normal,nodule",
        "--image-size",
        "8",
    )
    assert fedcli("init", "--run", "study", *named, cwd=tmp_path).status == 0
    for hospital in ("mercy", "charite"):
        words = [
            str(ROOT / "examples" / "draw_scans.py"),
            hospital,
            "--pictures",
            "4",
            "--size",
            "8",
        ]
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(), check=True)
    for block in blocks(PAGE, "bash"):
        _, states = in_slurm(slurm, block.text, tmp_path)
        logs = "\n".join(log.read_text() for log in tmp_path.glob("slurm-*.out"))
        assert states, block.text
        assert set(states) == {"COMPLETED"}, f"{block.text}\n{states}\n{logs}"
