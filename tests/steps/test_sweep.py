"""``sweep``: what it makes, how it resumes, shares, and goes on after failures."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support import warm
from support.runs import fedcli

import fedcli.steps.sweep as sweep_module
from fedcli.cli import execute
from fedcli.execution import engines
from fedcli.execution.engines import Engines
from fedcli.execution.engines.local import LocalEngine
from fedcli.execution.local import ForkServer, Launch
from fedcli.experiment.queue import Queue, is_active_elsewhere, lock_file
from fedcli.experiment.sweep import read_sweep
from fedcli.run import Run
from fedcli.run.active_run import RunMark
from fedcli.steps.verify import verify
from fedcli.storage.holds import hold

EXPERIMENT = """
[data]
limit = 80
[partition]
clients = 2
alpha = 0.5
[model]
model = "linear"
[train]
epochs = 1
[run]
rounds = 2
[sweep]
algorithm = ["fedavg", "scaffold"]
seed = "0-1"
"""
NAMES = ["fedavg-seed0", "fedavg-seed1", "scaffold-seed0", "scaffold-seed1"]
SECONDS = re.compile(rb'^ *"seconds": .*\n', re.MULTILINE)
PRELOAD = ["fedcli.execution.preload"]
PATIENCE = 60.0  # seconds within which processes have to be gone


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the runs, without what tells when and how fast it was made.

    A file that somebody is writing, or was when they were killed, has a hidden name.
    """
    files = [path for path in sorted(out.glob("[!.]*/**/[!.]*")) if path.is_file()]
    telemetry = [path for path in files if path.parent.name == "updates" and path.suffix == ".json"]
    return {
        str(path.relative_to(out)): SECONDS.sub(b"", path.read_bytes())
        for path in files
        if path not in telemetry and path.name != "running.json"
    }


def write(folder: Path, text: str = EXPERIMENT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "e.toml").write_text(text)
    return folder


def start(folder: Path) -> "subprocess.Popen[str]":
    """Start a sweep."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedcli", "sweep", "e.toml", "--jobs", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*")
    children = [int(child) for t in threads for child in (t / "children").read_text().split()]
    return children + [each for child in children for each in descendants(child)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing disturbed."""
    folder = write(tmp_path_factory.mktemp("whole"))
    done = fedcli("sweep", "e.toml", "--jobs", "2", "--json", cwd=folder)
    assert done.status == 0, done.err
    assert [run["name"] for run in done.json["runs"]] == NAMES
    assert {run["standing"] for run in done.json["runs"]} == {"done"}
    assert {run["complete"] for run in done.json["runs"]} == {2}
    assert done.json["runs"][3]["chosen"] == {"train.algorithm": "scaffold", "run.seed": 1}
    return folder / "e"


def test_each_run_is_complete_in_itself(whole: Path) -> None:
    for name in NAMES:
        assert verify(whole / name).sound
        assert Run.open(whole / name).latest_round().evaluation.exists()
    assert Run.open(whole / "scaffold-seed1").info.plan.train.algorithm == "scaffold"
    assert Run.open(whole / "scaffold-seed1").info.seed == 1


def test_the_commands_of_a_dry_run_are_those_that_are_executed(whole: Path, tmp_path: Path) -> None:
    write(tmp_path)
    lines = fedcli("sweep", "e.toml", "--dry-run", cwd=tmp_path).out.splitlines()
    assert len(lines) == 8
    assert not (tmp_path / "e").exists()
    assert "--data-of e/fedavg-seed0" in lines[4]
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "fedcli"
        assert fedcli(*words, cwd=tmp_path).status == 0
    assert contents(tmp_path / "e") == contents(whole)


def test_runs_with_other_seeds_of_training_share_a_partition(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        "[data]\ndata_seed = 5\n[partition]\npartition_seed = 6\n"
        "[run]\nrounds = 1\n[sweep]\nseed = [5, 7]\n"
    )
    first, _, second, _ = fedcli("sweep", file, "--dry-run", cwd=tmp_path).out.splitlines()
    assert "--data-seed 5 --partition-seed 6" in first
    assert first.endswith("--seed 5")
    assert second.endswith("--data-of s/seed5 --seed 7")


def test_a_line_for_an_array_needs_no_other_line(whole: Path, tmp_path: Path) -> None:
    write(tmp_path)
    lines = fedcli("sweep", "e.toml", "--print-array", cwd=tmp_path).out.splitlines()
    assert len(lines) == 4
    path = f"{warm.folder_of_script() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-ec", lines[3]], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True
    )
    made, wanted = contents(tmp_path / "e"), contents(whole)
    assert made == {path: data for path, data in wanted.items() if path.startswith(NAMES[3])}


def test_a_line_for_an_array_says_how_many_clients_train_at_a_time_and_where(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    jobs = ["--jobs", "2"]
    engine = ["--executor", "slurm", "--resources", "cpus=1,time=30m"]
    options = ["--executor-option", "partition=main", "--executor-option", "account=lab"]
    asked = [*jobs, *engine, *options, "--retries", "0"]
    printed = fedcli("sweep", "e.toml", "--print-array", *asked, cwd=tmp_path)
    assert printed.status == 0, printed.err
    for line in printed.out.splitlines():
        assert shlex.split(line)[-len(asked) :] == asked
    assert "--jobs" not in fedcli("sweep", "e.toml", "--print-array", cwd=tmp_path).out


def test_a_killed_sweep_ends_in_the_same_files_when_it_is_repeated(
    whole: Path, tmp_path: Path
) -> None:
    process = start(write(tmp_path))
    assert process.stderr is not None
    for line in process.stderr:
        if "round 1/2 done" in line:
            break
    children = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_until_gone(children)
    assert contents(tmp_path / "e").keys() < contents(whole).keys()
    done = fedcli("sweep", "e.toml", cwd=tmp_path)
    assert done.status == 0
    assert re.search(r"seed\d +(waiting|round 1 of 2)", done.err)  # it says where they stood
    assert contents(tmp_path / "e") == contents(whole)
    again = fedcli("sweep", "e.toml", cwd=tmp_path)
    assert again.status == 0
    assert "/2 done" not in again.err
    assert again.out.count(" done") >= 4


def test_an_interrupt_stops_all_processes(tmp_path: Path) -> None:
    process = start(write(tmp_path, EXPERIMENT.replace("rounds = 2", "rounds = 50")))
    assert process.stderr is not None
    for line in process.stderr:
        if "round 1/50 done" in line:
            break
    children = descendants(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert not [pid for pid in children if is_alive(pid)]
    assert "failed" not in err


def test_two_sweeps_at_once_do_no_work_twice(whole: Path, tmp_path: Path) -> None:
    write(tmp_path)
    both = [start(tmp_path), start(tmp_path)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    rounds = [line for _, err in said for line in re.findall(r"(\S+: round \d+/2) done", err)]
    assert sorted(rounds) == sorted(f"{name}: round {n}/2" for name in NAMES for n in (1, 2))
    assert contents(tmp_path / "e") == contents(whole)


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path) -> None:
    cases = "[[sweep.case]]\nclients = 2\n[[sweep.case]]\nclients = 500\n"
    head = EXPERIMENT.partition("[sweep]")[0].replace("clients = 2\n", "").replace("= 2", "= 1")
    write(tmp_path, head + cases)
    done = fedcli("sweep", "e.toml", "--json", cwd=tmp_path)
    assert done.status == 1
    assert [run["standing"] for run in done.json["runs"]] == ["done", "failed"]
    assert (
        "clients500: --clients 500: 80 training examples are too few"
        in (done.json["error"]["message"])
    )
    plain = fedcli("sweep", "e.toml", cwd=tmp_path)
    assert plain.status == 1
    assert "error: 1 of 2 runs failed: clients500: --clients 500" in plain.err
    assert "failed: --clients 500" in plain.out


def test_a_run_of_another_experiment_is_not_touched(whole: Path, tmp_path: Path) -> None:
    write(tmp_path, EXPERIMENT.replace("[train]\n", "[train]\nlr = 0.5\n"))
    shutil.copytree(whole, tmp_path / "e")
    done = fedcli("sweep", "e.toml", "--json", cwd=tmp_path)
    assert done.status == 1
    assert {run["standing"] for run in done.json["runs"]} == {"failed"}
    assert "fedavg-seed0: " in done.json["error"]["message"]
    assert "there is another run: its --lr is 0.01, not 0.5" in done.json["error"]["message"]
    assert done.json["error"]["hint"] == "use another --out, or remove e/fedavg-seed0"
    assert contents(tmp_path / "e") == contents(whole)


def test_a_run_that_somebody_else_works_on_is_left_to_them(whole: Path, tmp_path: Path) -> None:
    said: list[str] = []
    roots = {name: tmp_path / name for name in NAMES}
    queue = Queue(roots, said.append)
    held = hold(lock_file(roots[NAMES[0]]))
    assert held is not None
    with held:
        name, mine = queue.take() or ("", held)
        assert name == NAMES[1]
        assert said == [f"{NAMES[0]}: another process is at it"]
        mine.release()
    assert (queue.take() or ("", None))[0] == NAMES[0]


def test_a_case_that_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "--algorithm", "fedavg,fedprox", "--mu", "0.1", "--rounds", "1"]
    assert execute(words) == 2
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "error: --mu: is not an option of fedavg; it belongs to fedprox, moon (in fedavg)",
        "hint: what belongs to some cases alone stands with them in a [[sweep.case]]",
    ]
    assert execute(["sweep", "--algorithm", "fedavg"]) == 2
    assert "--rounds: say how many rounds" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_executed_is_what_a_dry_run_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[list[str]] = []

    class Recorder(ForkServer):
        def run(self, launch: Launch) -> int:
            launched.append([*launch.words])
            return super().run(launch)

    monkeypatch.chdir(write(tmp_path))
    monkeypatch.setattr(engines, "starter_for", lambda *models: Recorder(*PRELOAD, *models))
    asked = read_sweep(Path("e.toml"), typed={"run": {"rounds": [1]}})
    result = sweep_module.sweep(asked, jobs=2)
    assert not result.failed
    made = [words[2:-2] for words in launched if words[1] == "partition"]
    wanted = [shlex.split(line)[2:] for line in asked.commands() if "fedcli partition" in line]
    assert sorted(made) == sorted(wanted)
    trained = [words for words in launched if words[1] == "train-client"]
    assert len(trained) == len(asked.cases) * 2  # each client once
    assert sweep_module.survey(asked) == result


def test_a_run_that_fedcli_run_continues_is_left_to_it(tiny_run: Run) -> None:
    assert not is_active_elsewhere(tiny_run.root)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = RunMark(tiny_run.id, 3, socket.gethostname(), os.getppid(), now)
    mark.write(tiny_run.running_file)
    assert is_active_elsewhere(tiny_run.root)
    queue = Queue({"a": tiny_run.root}, lambda line: queue.end())
    assert queue.take() is None
    replace(mark, pid=os.getpid()).write(tiny_run.running_file)
    assert not is_active_elsewhere(tiny_run.root)
    assert not is_active_elsewhere(tiny_run.root / "nothing")


class Probed:
    """Says which device there is."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.asked: list[str] = []

    def run(self, launch: Launch) -> int:
        self.asked.append(launch.words[1])
        launch.out.write(json.dumps({"device": self.device, "free_memory_bytes": None}).encode())
        return 0

    def stop(self) -> None:
        pass


@pytest.mark.parametrize(
    ("device", "typed", "jobs", "at_a_time", "threads"),
    [
        ("cpu", {}, None, 4, 1),
        ("cpu", {"threads": [2]}, None, 2, 2),
        ("cpu", {}, 2, 2, 2),
        ("cuda", {}, None, None, None),  # one run after the other, by the memory of the GPU
        ("cuda", {}, 3, 3, 1),
    ],
)
def test_how_many_clients_train_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    typed: dict[str, Any],
    jobs: int | None,
    at_a_time: int | None,
    threads: int | None,
) -> None:
    monkeypatch.setattr(sweep_module, "available_cores", lambda: 4)
    asked = read_sweep(None, typed={"run": {"rounds": [1], "seed": [0, 1], **typed}})
    probed = Probed(device)
    engine = LocalEngine(probed)
    workers, found = sweep_module._workers(asked, Engines(engine, engine), jobs)
    assert (found, workers.threads) == (at_a_time, threads)
    assert probed.asked == ([] if jobs else ["auto"])


def test_a_rule_and_a_network_of_ones_own_are_named_to_the_steps(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def mean(values, shares):\n"
        "    return shares @ values\n"
        "def network(num_classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))\n"
    )
    words = ["--model", "mine:network", "--reduce", "mine:mean", "--seed", "0-1"]
    small = ["--limit", 60, "--clients", 2, "--epochs", 1, "--rounds", 1]
    lines = fedcli("sweep", *words, *small, "--dry-run", cwd=tmp_path).out.splitlines()
    assert lines[1].endswith("--rounds 1 --model mine:network --reduce mine:mean")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = fedcli("sweep", *words, *small, cwd=tmp_path, PYTHONPATH=path)
    assert done.status == 0, done.err
