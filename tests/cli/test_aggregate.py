"""``fedcli aggregate`` as its users call it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.handmade import snapshot
from support.in_process import MAKE, TEN, printed
from support.runs import deliver, fedcli, python
from support.tampering import poisoned

from fedcli.cli import command_of, execute
from fedcli.errors import ExitStatus
from fedcli.run import Run


def test_a_session(delivered: Run) -> None:
    directory = delivered.root.parent
    done = fedcli("aggregate", cwd=directory)
    assert (done.status, done.err) == (0, "")
    assert "round 1" in done.out
    assert "next: fedcli evaluate --data PATH\n" in done.out  # this run holds no test data
    assert max(map(len, done.out.splitlines())) <= 80
    assert sorted(path.name for path in delivered.round(1).path.iterdir()) == [
        "aggregate.json",
        "global.safetensors",
        "updates",
    ]
    before = snapshot(delivered)
    times = delivered.round(1).global_model.stat()
    again = fedcli("aggregate", "--round", 1, "--json", cwd=directory)
    assert again.status == 0
    assert again.json["already_done"] is True
    accepted = json.loads(before["rounds/0001/aggregate.json"])["accepted"]
    assert again.json["clients"] == [{"steps": None, **entry} for entry in accepted]
    repeated = fedcli("aggregate", cwd=directory)
    assert repeated.status == 0
    assert "round 1: fedavg (mean) of 3 updates" in repeated.out
    assert "already done, nothing changed" in " ".join(repeated.out.split())
    too_early = fedcli("aggregate", "--round", 2, cwd=directory)
    assert too_early.status == 3
    assert "round 2" in too_early.err
    assert "missing: 0, 1, 2" in too_early.err
    assert "hint: fedcli train-client --id 0 --data PATH" in too_early.err
    assert snapshot(delivered) == before
    assert delivered.round(1).global_model.stat().st_mtime_ns == times.st_mtime_ns


def test_json_has_the_same_keys_done_now_or_before(delivered: Run) -> None:
    first = fedcli("aggregate", "--json", "--run", delivered.root, cwd=Path.cwd()).json
    second = fedcli("aggregate", "--json", "--round=1", "-r", delivered.root, cwd=Path.cwd()).json
    assert list(first) == list(second)
    for volatile in ("already_done", "seconds"):
        first.pop(volatile), second.pop(volatile)
    assert first == second
    assert set(first) == {
        *("schema", "command", "round", "path", "sha256", "strategy", "reduce"),
        *("server_optimizer", "weighting", "options", "clients", "partials"),
        *("missing", "late", "rejected", "send", "unlisted", "bounded", "remarks", "bytes_read"),
    }


@pytest.mark.parametrize("words", [["--help"], ["aggregate", "--help"], ["aggregate"]])
def test_no_torch(delivered: Run, words: list[str]) -> None:
    program = (
        "import sys; from fedcli.cli import execute; status = execute(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'matplotlib'} & sys.modules.keys();"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = python(program, *words, cwd=delivered.root.parent)
    assert (done.status, done.err) == (0, "")


def test_one_clear_line_and_status_four(delivered: Run) -> None:
    deliver(delivered, "1", poisoned("fc.bias", np.nan))
    done = fedcli("aggregate", cwd=delivered.root.parent)
    assert (done.status, done.out) == (4, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: fedrun/rounds/0001/updates/1.safetensors: tensor 'fc.bias'")
    assert hint.startswith("hint: ")
    as_json = fedcli("aggregate", "--json", cwd=delivered.root.parent)
    assert (as_json.status, as_json.json["error"]["kind"]) == (4, "bad-update")


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
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed(capsys, *MAKE, *TEN)
    line = ["aggregate", "--partial", "-o", "edge.safetensors", *option.split()]
    assert execute(line) == ExitStatus.USAGE
    assert f"{option.split()[0]}: has no meaning" in capsys.readouterr().err


def test_a_partial_mean_has_a_name_that_aggregate_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["aggregate", "--partial", "-o", "edge.bin"]) == ExitStatus.USAGE
    assert ".safetensors, found edge.bin" in capsys.readouterr().err
