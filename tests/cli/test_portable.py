"""What Windows lacks is not needed for the commands of a single client, of a server, or of help."""

import sys
from pathlib import Path

import pytest
from support.runs import python

from fedcli import system
from fedcli.errors import BadInputError
from fedcli.storage.commit import locked
from fedcli.storage.untrusted import InputFile

WALK = """
import importlib, os, shutil, signal, sys

os.supports_dir_fd.clear()
importlib.reload(shutil)  # it decides how to delete folders when it is imported
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("preadv", "pwrite", "pread", "O_NOFOLLOW", "O_NOCTTY", "O_NONBLOCK",
             "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL"):
    delattr(signal, name)

from fedcli.cli import execute

for line in sys.argv[1:]:
    try:
        status = execute(line.split())
    except SystemExit as end:
        status = end.code
    assert status == 0, (line, status)
"""
LINES = (
    "--version",
    "--help",
    "aggregate --help",
    "run --help",
    "init --run own --classes a,b --image-size 8 --model linear --clients a,b",
    "partition --clients 2 --limit 24 --model linear --epochs 1",
    "train-client --id 0,1 --threads 1",
    "aggregate",
    "evaluate",
    "status",
    "verify",
    "report",
    "inspect fedrun/rounds/0001/global.safetensors",
    "export -o model.safetensors --format safetensors",
    "partition --clients 2 --limit 24 --model linear --epochs 1 --seed 1 --force",
    "gc --keep-last 1",
)


def test_commands_work_without_what_only_unix_has(tmp_path: Path) -> None:
    done = python(WALK, *LINES, cwd=tmp_path)
    assert (done.status, done.err.count("Traceback")) == (0, 0), done.err


def test_every_module_of_the_commands_is_imported_without_it() -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import fedcli
for module in pkgutil.walk_packages(fedcli.__path__, "fedcli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = python(code)
    assert done.status == 0, done.err


def test_links_are_refused_where_opening_cannot_refuse_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    monkeypatch.setattr("fedcli.storage.untrusted.NO_LINKS", 0)
    with pytest.raises(BadInputError, match="symbolic link"):
        InputFile(tmp_path / "link")
    with InputFile(tmp_path / "link", follow=True) as file:
        assert file.read(4, 3) == b"3456"


def test_bytes_are_read_and_written_without_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        monkeypatch.delattr(system.os, "pwrite")
        monkeypatch.delattr(system.os, "preadv")
        assert system.write_at(file.fileno(), memoryview(b"56789"), 5) == 5
        assert system.write_at(file.fileno(), memoryview(b"01234"), 0) == 5
        buffer = bytearray(4)
        assert system.read_at(file.fileno(), memoryview(buffer), 3) == 4
        assert buffer == b"3456"
        assert system.read_at(file.fileno(), memoryview(buffer), 10) == 0


def test_a_directory_is_used_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcli.storage.commit.fcntl", None)
    with locked(tmp_path / "cannot be opened"):
        assert sys
