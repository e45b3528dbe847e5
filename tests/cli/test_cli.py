"""What all commands have in common: start-up, help, completion, errors, full disks."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import fedcli, python

from fedcli import __version__, cli
from fedcli import errors as errors_module
from fedcli.cli import command_of, execute
from fedcli.errors import ExitStatus, FedcliError, error_from_json
from fedcli.run import Run

COMMANDS = sorted(cli.COMMANDS)
LIGHT = ("status", "aggregate", "report", "verify", "inspect")


def test_the_commands_are_those_of_the_design() -> None:
    design = """aggregate evaluate export gc init inspect keygen partition report run status
        train-client verify"""
    assert design.split() == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_options(command: str) -> None:
    parameters = command_of(command).params
    options = {name for parameter in parameters for name in parameter.opts}
    assert {"--run", "-r", "--json", "--quiet", "--debug"} <= options
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


def test_help_needs_no_numpy(tmp_path: Path) -> None:
    code = "import sys, fedcli.cli; print('numpy' in sys.modules)"
    assert python(code, cwd=tmp_path).out.strip() == "False"


def test_version_and_help_of_the_module_and_the_script(tmp_path: Path) -> None:
    assert fedcli("--version", cwd=tmp_path).out == f"fedcli {__version__}\n"
    script = Path(sys.executable).with_name("fedcli")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fedcli {__version__}\n"
    help_text = fedcli("--help", cwd=tmp_path).out
    assert all(command in help_text for command in COMMANDS)
    assert max(map(len, help_text.splitlines())) <= 80


def test_no_command_at_all_prints_the_help(tmp_path: Path) -> None:
    done = fedcli(cwd=tmp_path)
    assert done.status == 2
    assert "train-client" in done.out
    assert done.err == ""


def test_completion_completes_commands_and_options(tmp_path: Path) -> None:
    shell = {"_FEDCLI_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = fedcli(cwd=tmp_path, COMP_WORDS="fedcli tr", **shell)
    assert done.out.split() == ["train-client"]
    shell["COMP_CWORD"] = "2"
    done = fedcli(cwd=tmp_path, COMP_WORDS="fedcli train-client --batch", **shell)
    assert done.out.split() == ["--batch-size"]
    # Not --show-completion: it asks which shell is the parent, and a test may have none.
    done = fedcli(cwd=tmp_path, _FEDCLI_COMPLETE="source_bash")
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
    assert "\x1b[" not in fedcli("--help", cwd=tmp_path).out
    assert "\x1b[1;36m" in fedcli("--help", cwd=tmp_path, **colours).out
    assert "36m" not in fedcli("--help", cwd=tmp_path, NO_COLOR="1", **colours).out


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


# --- aggregate --list, and options that need each other ------------------------------------------


def test_the_list_of_rules_names_each_with_its_paper_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # there is no run here
    monkeypatch.setenv("COLUMNS", "80")
    assert execute(["aggregate", "--list", "--json"]) == 0
    kinds = json.loads(capsys.readouterr().out)
    assert execute(["aggregate", "--list"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for kind in ("strategies", "reducers", "server_optimizers", "weightings"):
        for name, rule in kinds[kind].items():
            assert re.search(rf"(?<![\w-]){name}(?![\w-])", text), name
            assert rule["summary"]
            assert re.search(r"\b(19|20)\d\d\b", rule["source"]), name
    for rule in kinds["strategies"].values():
        assert rule["reduce"] in kinds["reducers"]
        assert rule["server_optimizer"] in kinds["server_optimizers"]
        assert rule["weighting"] in kinds["weightings"]


def test_every_option_of_a_rule_is_an_option_of_aggregate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["aggregate", "--list", "--json"]) == 0
    kinds = json.loads(capsys.readouterr().out)
    options = {
        name
        for kind in ("reducers", "server_optimizers", "weightings")
        for rule in kinds[kind].values()
        for name in rule["options"]
    }
    assert options <= {parameter.name for parameter in command_of("aggregate").params}


@pytest.mark.parametrize("line", ["--partial", "-o edge.safetensors", "--partial 0,1"])
def test_partial_and_output_need_each_other(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["aggregate", *line.split()]) == ExitStatus.USAGE
    message = capsys.readouterr().err
    assert "--partial" in message
    assert "--output" in message


@pytest.mark.parametrize("option", ["--wait", "--min-clients"])
def test_a_partial_mean_waits_for_nobody(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["aggregate", "--partial", "-o", "edge.safetensors", option, "2"]
    assert execute(line) == ExitStatus.USAGE
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--server-optimizer adam", "--server-lr 0.1", "--beta1 0", "--no-diagnostics"]
)
def test_a_partial_mean_refuses_what_the_global_model_is_made_with(
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    printed(capsys, *MAKE, *TEN)
    line = ["aggregate", "--partial", "-o", "edge.safetensors", *option.split()]
    assert execute(line) == ExitStatus.USAGE
    assert f"{option.split()[0]}: has no meaning" in capsys.readouterr().err


def test_a_partial_mean_has_a_name_that_aggregate_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["aggregate", "--partial", "-o", "edge.bin"]) == ExitStatus.USAGE
    assert ".safetensors, found edge.bin" in capsys.readouterr().err


# --- sampling, as the shell sees it --------------------------------------------------------------

MAKE = ["init", "--num-classes", "2", "--model", "linear", "--image-size", "4", "--quiet"]
TEN = ["--clients", "0,1,2,3,4,5,6,7,8,9"]


def printed(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert execute([*line]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("sampling", ["--clients-per-round 3", "--fraction 0.3"])
def test_the_shell_can_read_who_is_sampled(
    sampling: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    printed(capsys, *MAKE, *TEN, *sampling.split())
    rounds = [
        printed(capsys, "status", "--sampled", "--round", str(number)) for number in range(1, 6)
    ]
    assert printed(capsys, "status", "--sampled") == rounds[0]
    assert len(set(rounds)) > 1
    run = Run.open(Path("fedrun"))
    for line in rounds:
        assert len(set(run.choose_clients([line.strip()]))) == 3
    value = json.loads(printed(capsys, "status", "--json"))
    assert ",".join(value["sampled"]) + "\n" == rounds[0]
    assert value["missing"] == value["sampled"]
    later = json.loads(printed(capsys, "status", "--json", "--round", "2"))
    assert (later["open_round"], later["round"]) == (1, 2)
    assert ",".join(later["missing"]) + "\n" == rounds[1]


def test_all_are_sampled_where_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed(capsys, *MAKE, *TEN)
    assert printed(capsys, "status", "--sampled") == "0,1,2,3,4,5,6,7,8,9\n"
    assert "sampled" not in printed(capsys, "status")
    printed(capsys, *MAKE, "--run", "open")
    assert execute(["status", "--sampled", "--run", "open"]) == ExitStatus.USAGE
    assert execute(["status", "--round", "0"]) == ExitStatus.USAGE


CANNOT_BE_SAMPLED = (
    *("--clients a,b --clients-per-round 3", "--clients-per-round 1", "--fraction 0.5"),
)
RULES_THAT_DO_NOT_EXIST = (
    *("--strategy sum", "--reduce sum", "--server-optimizer sum", "--weighting sum", "--q 2"),
)


@pytest.mark.parametrize("line", [*CANNOT_BE_SAMPLED, *RULES_THAT_DO_NOT_EXIST])
def test_a_run_that_no_round_could_be_made_in_is_not_made(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute([*MAKE, *line.split()]) == ExitStatus.USAGE
    assert line.split()[-2] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
