"""Streams that are closed, full, a closed pipe or ASCII only, warnings, and little memory."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from support.runs import Finished

from fedcli.cli import execute, streams
from fedcli.errors import is_memory_error
from fedcli.run import Run


def shell(line: str, cwd: Path, **variables: str) -> Finished:
    """Run a line of the shell; ``fedcli`` in it is the program."""
    words = line.replace("fedcli", f"'{sys.executable}' -m fedcli", 1)
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=120,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("command", ["--version", "status", "status --json"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing(tiny_run: Run, command: str, closed: str) -> None:
    done = shell(f"fedcli {command} {closed}", tiny_run.root.parent)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_an_error_keeps_its_status_without_streams(tmp_path: Path, closed: str) -> None:
    assert shell(f"fedcli status --run nothing {closed}", tmp_path).status == 4
    assert shell(f"fedcli status --run nothing --json {closed}", tmp_path).status == 4


def test_files_are_not_opened_in_place_of_a_closed_stream(delivered: Run) -> None:
    done = shell("fedcli aggregate >&- 2>&- <&-", delivered.root.parent)
    assert done.status == 0
    assert shell("fedcli verify --quiet", delivered.root.parent).status == 0


@pytest.mark.parametrize("command", ["--help", "status", "status --json", "report --csv -"])
def test_a_full_device_is_one_line(delivered: Run, command: str) -> None:
    done = shell(f"fedcli {command} > /dev/full", delivered.root.parent)
    assert done.status == 1
    assert done.err == "error: standard output: cannot write: No space left on device\n"


def test_a_full_device_for_errors_keeps_the_status(tmp_path: Path) -> None:
    assert shell("fedcli status --run nothing 2> /dev/full", tmp_path).status == 4


@pytest.mark.parametrize("command", ["--help", "status", "report", "status --json"])
def test_a_closed_pipe_is_quiet(delivered: Run, command: str) -> None:
    done = shell(f"fedcli {command} | true", delivered.root.parent)
    assert done.err == ""


def test_work_goes_on_if_nobody_reads_the_progress(delivered: Run) -> None:
    delivered.round(1).update("2").write_bytes(b"broken")
    done = shell("fedcli aggregate --min-clients 1 2> /dev/full", delivered.root.parent)
    assert delivered.round(1).global_model.exists()
    assert "round 1" in done.out


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
@pytest.mark.parametrize("command", ["report", "inspect fedrun/rounds/0000/global.safetensors"])
def test_every_encoding_can_be_printed(
    delivered: Run, variables: dict[str, str], command: str
) -> None:
    line = f"fedcli {command} | iconv -f latin1 -t utf-8"
    done = shell(line, delivered.root.parent, **variables)
    assert (done.status, done.err) == (0, "")
    assert done.out
    assert "\\u" not in done.out


def test_json_is_json_in_every_encoding(delivered: Run, tmp_path: Path) -> None:
    place = tmp_path / "größe–×"
    delivered.root.rename(place)
    done = shell(f"fedcli status --json --run '{place}'", tmp_path, PYTHONIOENCODING="ascii")
    assert done.out.isascii()
    assert json.loads(done.out)["run"] == str(place)


def test_a_run_at_a_path_that_is_not_utf8(delivered: Run, tmp_path: Path) -> None:
    place = Path(os.fsdecode(bytes(tmp_path) + b"/r\xff\xfe"))
    delivered.root.rename(place)
    options = "--run \"$(printf 'r\\377\\376')\""
    for command in ("aggregate", "status", "report", "report --json", "verify", "inspect"):
        of = "" if command == "inspect" else options
        path = " \"$(printf 'r\\377\\376')\"/run.json" if command == "inspect" else ""
        done = shell(f"fedcli {command} {of}{path}", tmp_path)
        assert done.status == (4 if command == "inspect" else 0), done.err
        assert "mistake" not in done.err
    given = "\"$(printf 'r\\377\\376')\""
    files = "--html page.html --csv values.csv --markdown text.md"
    assert shell(f"fedcli report {given} {files}", tmp_path).status == 0
    assert r"r\udcff\udcfe" in (tmp_path / "values.csv").read_text()
    out = "export --format safetensors"
    done = shell(f"fedcli {out} {options} -o \"$(printf 'm\\377.safetensors')\"", tmp_path)
    assert done.status == 0, done.err


@pytest.mark.parametrize("reason", ["", "Unable to allocate 3.2 GiB"])
def test_little_memory_is_status_6(
    reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError(*filter(None, [reason]))

    monkeypatch.setattr(Run, "open", fail)
    assert execute(["status"]) == 6
    line = f"error: out of memory{f': {reason}' if reason else ''}\n"
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("limit", [150_000, 250_000, 400_000, 700_000])
def test_a_limit_of_memory_ends_in_one_line(delivered: Run, limit: int) -> None:
    line = f"ulimit -v {limit}; exec fedcli aggregate"
    done = shell(line, delivered.root.parent, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert done.status in (0, 6), done.err
    assert "mistake" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ValueError("out of memory"), False),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_what_means_that_memory_is_exhausted(error: Exception, means: bool) -> None:
    assert is_memory_error(error) is means


class TestWarnings:
    @pytest.fixture(autouse=True)
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        monkeypatch.setattr(logging, "lastResort", logging.lastResort)
        monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")

    def test_are_one_line_without_a_path(self, capsys: pytest.CaptureFixture[str]) -> None:
        streams.prepare(debug=False)
        place = "/opt/lib/site-packages/PIL/TiffImagePlugin.py"
        for _ in range(3):
            warnings.showwarning("Corrupt EXIF\n  data \x1b[2J", UserWarning, place, 935)
        assert capsys.readouterr().err == "warning: PIL: Corrupt EXIF data \\x1b[2J\n"

    def test_name_a_file_of_the_user(self, capsys: pytest.CaptureFixture[str]) -> None:
        streams.prepare(debug=False)
        warnings.showwarning("deprecated", UserWarning, "/home/me/study/net.py", 3)
        assert capsys.readouterr().err == "warning: net.py: deprecated\n"

    def test_are_few(self, capsys: pytest.CaptureFixture[str]) -> None:
        streams.prepare(debug=False)
        for number in range(100):
            warnings.showwarning(f"tag {number}", UserWarning, "/x/site-packages/PIL/a.py", 1)
        assert len(capsys.readouterr().err.splitlines()) == 20

    def test_of_logging_are_treated_alike(self, capsys: pytest.CaptureFixture[str]) -> None:
        streams.prepare(debug=False)
        assert logging.lastResort is not None
        record = logging.LogRecord("PIL.Image", logging.WARNING, "/x.py", 1, "odd", None, None)
        logging.lastResort.emit(record)
        assert capsys.readouterr().err == "warning: PIL: odd\n"

    def test_are_pythons_own_with_debug(self) -> None:
        before = warnings.showwarning, logging.lastResort
        streams.prepare(debug=True)
        assert (warnings.showwarning, logging.lastResort) == before
