"""``fedcli report`` and its trackers, as a user's session sees them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sample_runs import make_run, score, write_evaluation

from fedcli.run import Run
from fedcli.storage.atomic import write_json

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("option", "value", "library"),
    [
        ("--tensorboard", "tb", "tensorboard"),
        ("--mlflow", "http://127.0.0.1:9", "mlflow"),
        ("--wandb-offline", "w", "wandb"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    run: Run, cli: Cli, monkeypatch: pytest.MonkeyPatch, option: str, value: str, library: str
) -> None:
    monkeypatch.chdir(run.root.parent)
    for name in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = cli("report", run.root, option, value)
    error = f"error: {option} needs {library}, which is not installed"
    assert (status, err.splitlines()) == (1, [error, f"hint: pip install 'fedcli[{library}]'"])
    assert not Path(value).exists()


def test_a_report_without_trackers_imports_none_of_them(run: Run) -> None:
    code = "import sys; from fedcli.cli import execute; execute(sys.argv[1:]); print(*sys.modules)"
    words = ("report", "fedrun", "--quiet", "--csv", "r.csv")
    process = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=run.root.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in process.stdout.splitlines()[-1].split()}
    assert not loaded & {"torch", "tensorboard", "mlflow", "wandb", "pandas", "pyarrow"}
    assert "fedcli.trackers" not in process.stdout.splitlines()[-1].split()


def test_clients_that_are_left_out_are_counted(tmp_path: Path, cli: Cli, unsynced: None) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    many = make_run(tmp_path / "many", clients=tuple(map(str, range(60))), accuracies=(0.5,))
    folder = tmp_path / "tb" / "many"
    status, _, err = cli("report", many.root, "--tensorboard", tmp_path / "tb")
    lines = [f"wrote {folder}", f"{folder}: values of 50 of 60 clients; --csv has all"]
    assert (status, err.splitlines()) == (0, lines)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
def test_numbers_of_any_size_are_written(
    run: Run, cli: Cli, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.root.parent)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "numbers of any size")
    for name in ("tensorboard", "mlflow", "sqlalchemy", "wandb"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    for client in "012":
        file = run.round(2).telemetry(client)
        claimed = json.loads(file.read_text()) | {"seconds": 1.7e308, "num_examples": 2**63 - 1}
        write_json(file, claimed)
    where = ("--tensorboard", "tb", "--mlflow", database, "--wandb-offline", "w")
    status, _, err = cli("report", run.root, *where, "--parquet", "r.parquet", "--quiet")
    assert (status, err) == (0, "")


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
@pytest.mark.parametrize("option", ["--tensorboard", "--mlflow", "--wandb-offline"])
def test_it_is_said_what_was_done(
    run: Run, cli: Cli, database: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (option.strip("-").split("-")[0], "sqlalchemy"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(run.root.parent)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "what was done")

    def said() -> str:
        status, _, err = cli("report", run.root, option, database if "mlflow" in option else "x")
        assert status == 0, err
        return err

    assert said().startswith("wrote ")
    assert said().endswith(": already done, nothing changed\n")
    write_evaluation(run.round(3), [score(run, 0.75)])
    assert said().startswith("replaced ")


def test_nothing_is_sent_and_no_process_stays(run: Run) -> None:
    for name in ("tensorboard", "mlflow", "sqlalchemy", "wandb"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        anyone = f"http://127.0.0.1:{listener.getsockname()[1]}"
        proxies = {f"{kind}_PROXY": anyone for kind in ("HTTP", "HTTPS", "ALL")}
        mark = f"FEDCLI_TEST_{os.getpid()}_{listener.getsockname()[1]}"
        where = ("--tensorboard", "tb", "--mlflow", "sqlite:///m.db", "--wandb-offline", "w")
        process = subprocess.run(
            [sys.executable, "-m", "fedcli", "report", "fedrun", "--json", *where],
            cwd=run.root.parent,
            env={**os.environ, **proxies, "WANDB_BASE_URL": anyone, mark: "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        said = [line.split(" ", 1)[1] for line in process.stderr.splitlines()]
        assert said[:2] == ["tb/fedrun", "sqlite:///m.db: fedrun"]
        assert [line.rsplit("-", 2)[0] for line in said[2:]] == ["w/wandb/offline-run"]
        made = {path.name for path in run.root.parent.iterdir()}
        assert made == {"fedrun", "tb", "m.db", "w"}
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not with_environment(mark)


def with_environment(mark: str) -> list[str]:
    """The processes that inherited a variable; on Linux only."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found
