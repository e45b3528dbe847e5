"""``fedcli status`` as its users call it."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.grey_runs import Cli, examples
from support.in_process import MAKE, TEN, printed

from fedcli.cli import execute
from fedcli.cli.render.status import short_hosts
from fedcli.errors import ExitStatus
from fedcli.run import Run
from fedcli.steps.status import status


def test_hints_of_a_run_whose_data_is_with_its_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("init", "--classes", "a,b,c", "--model", "linear", "--image-size", 6, "--channels", 1)
    assert cli(*words, "--clients", "mercy,olav", "--run", "study")[0] == 0
    study = Run.open(Path("study"))
    assert status(study).next == "fedcli train-client --id mercy --data PATH --run study"
    _, _, err = cli("aggregate", "--run", "study")
    assert "hint: fedcli train-client --id mercy --data PATH --run study" in err
    np.savez("scans.npz", **examples(1, 30))
    for client in ("mercy", "olav"):
        assert cli("train-client", "-r", "study", "--id", client, "--data", "scans.npz")[0] == 0
    found, out, _ = cli("aggregate", "--run", "study")
    assert found == 0
    assert "next: fedcli evaluate --data PATH --run study" in out
    found, _, err = cli("run", "--run", "study", "--rounds", 2)
    assert found == 2
    assert "its data is not in the run" in err
    found, _, err = cli("evaluate", "--run", "study")
    assert found == 3
    assert "hint: provide some: fedcli evaluate --data PATH --run study" in err


def test_status_follows_the_run(run: Run, cli: Cli) -> None:
    assert status(run).next == "fedcli train-client --id all"
    assert cli("train-client", "--id", "1")[0] == 0
    assert status(run).delivered == ("1",)
    assert status(run).next == "fedcli train-client --id 0,2"
    assert cli("train-client", "--id", "0,2")[0] == 0
    assert status(run).next == "fedcli aggregate"
    assert cli("aggregate")[0] == 0
    assert status(run).open_round == 2
    assert status(run).next == "fedcli evaluate"
    assert cli("evaluate")[0] == 0
    assert status(run).next == "fedcli train-client --id all"
    found, out, _ = cli("status")
    assert found == 0
    assert "open round" in out
    value = json.loads(cli("status", "--json")[1])
    assert value["evaluated"] == [1]
    assert value["missing"] == ["0", "1", "2"]


def test_status_without_a_starting_model(run: Run, cli: Cli) -> None:
    run.round(0).global_model.unlink()
    found, _, err = cli("status")
    assert found == 3
    assert "the starting model is missing" in err


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


def test_hosts_are_shown_without_their_domain_where_that_keeps_them_apart() -> None:
    assert short_hosts({"a.ward.example", "b.ward.example", "10.0.0.7"}) == {
        "a.ward.example": "a",
        "b.ward.example": "b",
        "10.0.0.7": "10.0.0.7",
    }
    assert short_hosts({"a.one.example", "a.two.example"}) == {
        "a.one.example": "a.one.example",
        "a.two.example": "a.two.example",
    }
