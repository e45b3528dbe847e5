"""``fedcli run``: the same bytes as by hand, resuming, failing clients, interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import fedcli, new_fedcli

from fedcli.cli import execute
from fedcli.errors import UpdateError, error_from_json
from fedcli.formats.manifest import Absence, Manifest
from fedcli.run import Run
from fedcli.system import available_cores

SMALL = ("--model", "linear", "--limit", "240", "--epochs", "1")


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was just made, to be copied."""
    folder = tmp_path_factory.mktemp("cut")
    done = fedcli("partition", *SMALL, cwd=folder)
    assert done.status == 0, done.err
    return folder / "fedrun"


@pytest.fixture
def made(cut: Path, tmp_path: Path) -> Run:
    shutil.copytree(cut, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


def checkpoints(run: Run) -> dict[str, bytes]:
    found = sorted((run.root / "rounds").rglob("*.safetensors"))
    return {str(path.relative_to(run.root)): path.read_bytes() for path in found}


def test_run_makes_the_bytes_that_the_steps_make_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network whose bytes depend on the threads, as many clients at a time as cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    network = ("--model", "cnn", "--limit", "240", "--epochs", "1")
    assert fedcli("partition", "--run", "hand", *network, cwd=tmp_path).status == 0
    shutil.copytree(tmp_path / "hand", tmp_path / "run")
    for clients in ("2,0", "1"):
        words = ("train-client", "--id", clients, "--threads", "1")
        assert fedcli(*words, cwd=tmp_path, FEDCLI_RUN="hand").status == 0
    assert fedcli("aggregate", cwd=tmp_path, FEDCLI_RUN="hand").status == 0
    jobs = max(2, available_cores())
    done = new_fedcli("run", "--rounds", 1, "--jobs", jobs, cwd=tmp_path, FEDCLI_RUN="run")
    assert done.status == 0, done.err
    assert "round 1/1 done  test loss" in done.err
    assert "next: fedcli report" in done.out
    by_hand, made = Run.open(tmp_path / "hand"), Run.open(tmp_path / "run")
    assert checkpoints(made) == checkpoints(by_hand)
    assert made.round(0).evaluation.exists()
    assert made.round(1).evaluation.exists()


def test_run_goes_on_where_the_directory_stands(made: Run, tmp_path: Path) -> None:
    assert fedcli("train-client", "--id", 1, "--threads", 1, cwd=tmp_path).status == 0
    update = made.round(1).update("1").stat().st_mtime_ns
    options = ("--jobs", 2, "--threads", 1, "--no-evaluate", "--json", "--quiet")
    value = fedcli("run", "--rounds", 2, *options, cwd=tmp_path).json
    assert [row["round"] for row in value["rounds"]] == [1, 2]
    assert value["rounds"][0]["accuracy"] is None
    assert made.round(1).update("1").stat().st_mtime_ns == update
    assert not made.round(0).evaluation.exists()
    assert not made.round(1).evaluation.exists()
    value = fedcli("run", "--rounds", 2, *options, cwd=tmp_path).json
    assert value == {
        "schema": 1,
        "command": "run",
        "rounds_complete": 2,
        "rounds": [],
        "stopped": None,
    }


def test_a_failing_client_is_named_and_the_rest_stays(made: Run, tmp_path: Path) -> None:
    shard = made.client_shard("1")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    options = ("run", "--rounds", 1, "--jobs", 1, "--threads", 1, "--no-evaluate")
    done = fedcli(*options, cwd=tmp_path)
    assert done.status == 4
    assert done.err.splitlines()[-2].startswith("error: client 1, round 1: ")
    assert "client-1.safetensors" in done.err
    assert made.round(1).delivered() == ["0", "2"]  # whose data are more than what is left of 1's
    shard.write_bytes(whole)
    assert fedcli(*options, cwd=tmp_path).status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_children_and_leaves_a_run_to_resume(
    made: Run, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "fedcli", "run", "--rounds", "50", "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--no-evaluate"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "client" in line:
            break
    children = _descendants(process.pid)
    assert children
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert not [pid for pid in children if _alive(pid)]
    leftovers = [p.name for p in made.root.rglob(".*.tmp")]
    assert len(leftovers) <= 2  # those of children that were stopped while they wrote
    rounds = made.latest_round().number + 1
    done = fedcli("run", "--rounds", rounds, "--threads", 1, "--no-evaluate", cwd=tmp_path)
    assert done.status == 0, done.err


def test_a_run_that_ignores_hangups_as_under_nohup_goes_on(made: Run, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fedcli", "run", "--rounds", "2", "--threads", "1"]
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{ignoring}os.execv(sys.argv[1], sys.argv[1:])", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "client" in line:
            break
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert made.latest_round().number == 2


def test_a_file_called_as_a_module_of_python_is_not_taken_for_it(made: Run, tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('mine')")
    script = Path(sys.executable).with_name("fedcli")
    command = [script, "run", "--rounds", "1", "--threads", "1", "--jobs", "9"]  # of 3 clients
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert made.latest_round().number == 1


def _descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for t in threads for child in (t / "children").read_text().split()]
    return children + [each for child in children for each in _descendants(child)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_script_without_a_main_guard_runs_once(made: Run, tmp_path: Path) -> None:
    """What forks or spawns processes by importing the main module again would start it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from fedcli.run import Run\n"
        "from fedcli import StepOptions, run_rounds\n"
        "print('starts')\n"
        "options = StepOptions(execution={'threads': 1})\n"
        "result = run_rounds(Run.open(Path('fedrun')), 1, options, evaluate=False)\n"
        "print(result.rounds_complete)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "starts\n1\n", "")
    assert made.round(1).global_model.exists()


def test_a_wrong_number_of_jobs(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "-1", "many", "1.5"):
        arguments = ["run", "--run", str(made.root), "--rounds", "1", "--jobs", wrong]
        assert execute(arguments) == 2
        assert "--jobs: expected auto or a number" in capsys.readouterr().err


def test_rounds_that_were_left_without_scores_are_scored(made: Run, tmp_path: Path) -> None:
    options = ("run", "--threads", 1, "--jobs", 3, "--json", "--quiet")
    assert fedcli(*options, "--rounds", 1, "--no-evaluate", cwd=tmp_path).status == 0
    assert not made.round(1).evaluation.exists()
    assert fedcli(*options, "--rounds", 1, cwd=tmp_path).json["rounds"] == []
    assert made.round(0).evaluation.exists()
    assert made.round(1).evaluation.exists()


def test_excluded_and_failing_clients(made: Run, tmp_path: Path) -> None:
    shard = made.client_shard("1")
    shard.write_bytes(shard.read_bytes()[:100])
    options = ("run", "--threads", 1, "--jobs", 3, "--no-evaluate")
    done = fedcli(*options, "--rounds", 1, "--min-clients", 2, cwd=tmp_path)
    assert done.status == 0, done.err
    assert "client 1, round 1: " in done.err
    done = fedcli(*options, "--rounds", 2, "--exclude", 1, cwd=tmp_path)
    assert done.status == 0, done.err
    manifests = [Manifest.try_read(made.round(number).manifest) for number in (1, 2)]
    accepted = [[c.client for c in manifest.accepted] for manifest in manifests if manifest]
    assert accepted == [["0", "2"], ["0", "2"]]
    assert manifests[0] is not None
    assert manifests[0].missing == (Absence("1", "has not delivered"),)
    done = fedcli(*options, "--rounds", 3, "--min-clients", 3, cwd=tmp_path)
    assert done.status == 4
    assert not made.round(3).global_model.exists()


def test_a_strategy_that_was_asked_for_is_that_of_both_run_and_aggregate(tmp_path: Path) -> None:
    partition = ("partition", "--limit", 60, "--clients", 2, "--model", "linear", "--epochs", 1)
    asked = ("--algorithm", "fednova", "--strategy", "fedavg", "--quiet")
    assert fedcli(*partition, *asked, cwd=tmp_path).status == 0
    assert fedcli("run", "--rounds", 1, "--no-evaluate", cwd=tmp_path).status == 0
    manifest = Manifest.try_read(Run.open(tmp_path / "fedrun").round(1).manifest)
    assert manifest is not None
    assert (manifest.strategy, manifest.weighting) == ("fedavg", "examples")
    again = fedcli("aggregate", "--round", 1, "--json", cwd=tmp_path)
    assert again.json["already_done"]


def test_wrong_options_start_no_process(made: Run, tmp_path: Path) -> None:
    for wrong in (("--lr", "-1"), ("--weighting", "loudest"), ("--augment", "spin")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(subprocess, "Popen", None)
            assert execute(["run", "--rounds", "1", *wrong]) == 2


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("--clients-per-round 1 --min-clients 2", 2, "--min-clients: expected at most 1"),
        ("--min-clients 3 --exclude 0", 2, "--min-clients: expected at most 2"),
        ("--exclude 0-2", 2, "--exclude: leaves no client of round 1"),
        ("--clients-per-round 1 --exclude 0", 2, "--exclude: leaves no client of round"),
        ("--strategy clipped-mean", 2, "--clip-norm"),
        ("--strategy fedbuff --min-clients 2", 2, "--min-clients"),
        ("--strategy fedbuff --buffer 4", 2, "--buffer: expected at most 3"),
        ("--strategy fedbuff --clients-per-round 1", 2, "--buffer: expected at most 1"),
        ("--strategy krum --byzantine 1", 3, "found 3"),
        ("--strategy trimmed-mean --clients-per-round 2 --trim 0.4", 3, "found 2"),
    ],
)
def test_what_no_round_can_do_is_refused_before_anything_trains(
    line: str,
    status: int,
    message: str,
    made: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    arguments = ["run", "--run", str(made.root), "--rounds", "20", *line.split()]
    assert execute(arguments) == status
    assert message in capsys.readouterr().err


def test_cores_are_shared_but_not_decided_on(made: Run, tmp_path: Path) -> None:
    """Another --jobs after an interruption is not a conflict."""
    assert new_fedcli("train-client", "--id", 0, cwd=tmp_path, OMP_NUM_THREADS="2").status == 0
    done = fedcli("run", "--rounds", 1, "--jobs", 3, "--no-evaluate", cwd=tmp_path)
    assert done.status == 0, done.err


def test_run_without_a_list_of_clients(tmp_path: Path) -> None:
    done = fedcli("init", "--model", "linear", "--classes", "a,b", cwd=tmp_path)
    assert done.status == 0, done.err
    done = fedcli("run", "--rounds", 1, cwd=tmp_path)
    assert done.status == 2
    assert "without a list of clients" in done.err


def test_errors_travel_between_processes() -> None:
    error = error_from_json({"kind": "bad-update", "message": "x", "hint": None})
    assert type(error) is UpdateError
    assert error.status == 4
    unknown = error_from_json({"kind": "internal", "message": "KeyError", "hint": "--debug"})
    assert (unknown.status, unknown.message, unknown.hint) == (1, "KeyError", "--debug")
    assert error_from_json({"kind": "client-failed", "message": "", "hint": None}).status == 1


def test_an_error_keeps_its_file_and_its_client_between_processes() -> None:
    path, other = Path("rounds") / "a: b.safetensors", Path("rounds") / "b"
    error = UpdateError("is NaN: all of it", hint="h", path=path, client="7")
    assert str(error) == error.message == f"{path}: is NaN: all of it"
    assert error.about(path) == "is NaN: all of it"
    assert error.about(other) == error.message
    named = error.amended(message=f"client 7: {error.message}", hint="again")
    assert (named.hint, error.hint) == ("again", "h")
    for one in (error, named):
        found = error_from_json(json.loads(json.dumps(one.as_json())))
        assert type(found) is UpdateError
        assert (str(found), found.hint) == (str(one), one.hint)
        assert (found.path, found.client, found.reason) == (path, "7", "is NaN: all of it")
