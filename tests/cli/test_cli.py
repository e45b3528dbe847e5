"""What all commands have in common: start-up, help, completion, errors, full disks."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import new_fedcli, python

from fedcli import __version__, cli
from fedcli import errors as errors_module
from fedcli.cli import command_of, execute
from fedcli.errors import ExitStatus, FedcliError, error_from_json

COMMANDS = sorted(cli.COMMANDS)
LIGHT = ("status", "aggregate", "report", "verify", "inspect")


def test_the_commands_are_those_of_the_design() -> None:
    design = """aggregate check evaluate export gc init inspect keygen partition plan pull push
        report run status sweep train-client unmask verify"""
    assert design.split() == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_options(command: str) -> None:
    parameters = command_of(command).params
    options = {name for parameter in parameters for name in parameter.opts}
    one_run = set() if command in ("sweep", "plan") else {"--run", "-r"}
    assert {*one_run, "--json", "--quiet", "--debug"} <= options
    assert all(parameter.help for parameter in parameters)


@pytest.mark.parametrize("line", ["--help", *(f"{command} --help" for command in LIGHT), *LIGHT])
def test_light_commands_import_no_torch(line: str, tmp_path: Path) -> None:
    code = f"""
import sys
from fedcli.cli import execute
try:
    execute({line.split()!r})
except SystemExit:
    pass
loaded = [n for n in ("torch", "torchvision", "PIL", "matplotlib") if n in sys.modules]
print(loaded, file=sys.stderr)
"""
    assert python(code, cwd=tmp_path).err.splitlines()[-1] == "[]"


def test_a_sweep_leaves_torch_to_its_steps(tmp_path: Path) -> None:
    code = """
import sys
from fedcli.cli import execute
execute("sweep --seed 0-1 --model resnet18 --rounds 1 --dry-run".split())
print("torch" in sys.modules)
"""
    assert python(code, cwd=tmp_path).out.splitlines()[-1] == "False"


def test_help_needs_no_step_and_no_numpy(tmp_path: Path) -> None:
    code = """
import sys
from fedcli.cli import execute
try:
    execute(["--help"])
except SystemExit:
    pass
slow = ("numpy", "rich", "fedcli.aggregation", "fedcli.steps", "fedcli.run", "fedcli.cli.commands")
print([n for n in slow if n in sys.modules])
"""
    assert python(code, cwd=tmp_path).out.splitlines()[-1] == "[]"


def test_version_and_help_of_the_module_and_the_script(tmp_path: Path) -> None:
    assert new_fedcli("--version", cwd=tmp_path).out == f"fedcli {__version__}\n"
    script = Path(sys.executable).with_name("fedcli")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fedcli {__version__}\n"
    help_text = new_fedcli("--help", cwd=tmp_path).out
    assert all(command in help_text for command in COMMANDS)
    assert max(map(len, help_text.splitlines())) <= 80


def test_no_command_at_all_prints_the_help(tmp_path: Path) -> None:
    done = new_fedcli(cwd=tmp_path)
    assert done.status == 2
    assert "train-client" in done.out
    assert done.err == ""


def test_completion_completes_commands_and_options(tmp_path: Path) -> None:
    shell = {"_FEDCLI_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = new_fedcli(cwd=tmp_path, COMP_WORDS="fedcli tr", **shell)
    assert done.out.split() == ["train-client"]
    shell["COMP_CWORD"] = "2"
    done = new_fedcli(cwd=tmp_path, COMP_WORDS="fedcli train-client --batch", **shell)
    assert done.out.split() == ["--batch-size"]
    # Not --show-completion: it asks which shell is the parent, and a test may have none.
    done = new_fedcli(cwd=tmp_path, _FEDCLI_COMPLETE="source_bash")
    assert "complete -o default -F _fedcli_completion fedcli" in done.out


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fedcli", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr


def test_colour_only_where_it_is_wanted(tmp_path: Path) -> None:
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[" not in new_fedcli("--help", cwd=tmp_path).out
    assert "\x1b[1;36m" in new_fedcli("--help", cwd=tmp_path, **colours).out
    assert "36m" not in new_fedcli("--help", cwd=tmp_path, NO_COLOR="1", **colours).out


def test_unexpected_errors_show_a_traceback_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("the program is wrong")

    monkeypatch.setattr("fedcli.run.directory.Run.open", broken)
    assert execute(["status"]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "error: ZeroDivisionError: the program is wrong"
    assert "Traceback" not in err
    assert execute(["status", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_names_in_messages_cannot_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["status", "--run", "evil\x1b[2J\nerror: fake"]) == 4
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert len(err.splitlines()) == 2  # the error and its hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize(
    "line",
    [
        "init --classes a,b --model linear --run new",
        "partition --model linear --limit 30 --run new",
    ],
)
def test_a_write_that_fails_is_one_line_and_leaves_no_run(
    line: str,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        assert execute([*line.split(), "--quiet"]) == ExitStatus.FAILED
    err = capsys.readouterr().err
    assert err.startswith("error: new/")
    assert os.strerror(number) in err
    assert not Path("new/run.json").exists()
    assert not list(Path("new").rglob(".*.tmp"))
    assert execute([*line.split(), "--quiet"]) == 0


def test_every_error_of_the_tree_has_a_kind_of_its_own() -> None:
    def tree(cls: type[FedcliError]) -> list[type[FedcliError]]:
        return [cls, *(deeper for child in cls.__subclasses__() for deeper in tree(child))]

    errors = tree(FedcliError)
    assert len({error.kind for error in errors}) == len(errors)
    for error in errors:
        assert error.__name__ in (errors_module.__doc__ or "")
        printed = json.loads(json.dumps(error("m", hint="h").as_json()))
        assert printed == {"kind": error.kind, "message": "m", "hint": "h"}
        assert type(error_from_json(printed)) is error
