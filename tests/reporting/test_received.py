"""What a report counts as received: whole models, deltas, or nothing of what a client drew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runs import fedcli

from fedcli.run import Run
from fedcli.steps.report import report

BOTH = ("--encode", "round=0.1", "--encode-global", "round=0.1")
SMALL = ("--limit", "60", "--model", "linear", "--epochs", "1", "--batch-size", "8")


def make(folder: Path, *options: str) -> Run:
    assert fedcli("partition", *SMALL, *options, cwd=folder).status == 0
    return Run.open(folder / "fedrun")


def rounds(folder: Path, number: int, ids: str = "all", *options: str) -> None:
    for _ in range(number):
        for words in (("train-client", "--id", ids), ("aggregate", *options)):
            done = fedcli(*words, cwd=folder)
            assert done.status == 0, done.err


def sizes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def of_client(run: Run, client: str) -> Any:
    return next(one for one in report([run]).runs[0].clients if one.client == client)


def test_the_sizes_of_all_files_that_travelled_are_the_total(tmp_path: Path) -> None:
    run = make(tmp_path, *BOTH)
    rounds(tmp_path, 2)
    deltas = [run.round(number).delta for number in (0, 1)] * 3
    updates = [run.round(n).update(c) for n in (1, 2) for c in "012"]
    found = report([run]).runs[0]
    assert found.rounds[-1].bytes_total == sizes(*deltas, *updates)
    assert found.rounds[1].bytes_down == 3 * sizes(run.round(0).delta)
    one = of_client(run, "1")
    assert one.bytes_up == sizes(run.round(1).update("1"), run.round(2).update("1"))
    assert one.bytes_down == sizes(run.round(0).delta, run.round(1).delta)


def test_a_client_that_missed_a_round_needs_two_deltas(tmp_path: Path) -> None:
    run = make(tmp_path, *BOTH)
    rounds(tmp_path, 1)
    rounds(tmp_path, 1, "0,1", "--min-clients", "2")
    rounds(tmp_path, 1)
    wanted = [run.round(number).delta for number in (0, 1, 2)]
    assert of_client(run, "2").bytes_down == sizes(*wanted)
    assert of_client(run, "0").bytes_down == sizes(*wanted)


def test_a_starting_model_that_was_not_drawn_is_received_whole(tmp_path: Path) -> None:
    run = make(tmp_path, *BOTH)
    rounds(tmp_path, 1)
    telemetry = run.round(1).telemetry("2")
    values = json.loads(telemetry.read_text())
    assert values.pop("drawn") is True
    telemetry.write_text(json.dumps(values))
    assert of_client(run, "2").bytes_down == sizes(run.round(0).global_model)
    assert of_client(run, "1").bytes_down == sizes(run.round(0).delta)


def test_without_deltas_every_round_takes_a_whole_model(tmp_path: Path) -> None:
    run = make(tmp_path, "--encode", "round=0.1")
    rounds(tmp_path, 2)
    models = [run.round(number).global_model for number in (0, 1)]
    assert of_client(run, "1").bytes_down == sizes(*models)
    assert not run.round(0).delta.exists()


def test_clients_of_scaffold_receive_the_state_of_the_server_too(tmp_path: Path) -> None:
    run = make(tmp_path, "--algorithm", "scaffold")
    rounds(tmp_path, 2)
    wanted = sizes(*(run.round(n).global_model for n in (0, 1)), run.round(1).server_state)
    assert of_client(run, "1").bytes_down == wanted
    run.round(1).server_state.unlink()  # as gc does; that of round 2 is as large
    assert of_client(run, "1").bytes_down == pytest.approx(wanted, abs=100)


def test_a_given_starting_model_cannot_be_drawn(tmp_path: Path) -> None:
    first = make(tmp_path)
    weights = first.round(0).global_model
    shutil.copy(weights, tmp_path / "w.safetensors")
    done = fedcli(
        "partition", *SMALL, *BOTH, "--init-from", "w.safetensors", "--run", "b", cwd=tmp_path
    )
    assert done.status == 0, done.err
    assert not Run.open(tmp_path / "b").round(0).delta.exists()


def test_a_client_with_deltas_alone_trains_the_same_update(tmp_path: Path) -> None:
    run = make(tmp_path, *BOTH)
    rounds(tmp_path, 1)
    assert fedcli("train-client", "--id", "1", "--threads", "1", cwd=tmp_path).status == 0
    away = tmp_path / "away"
    away.mkdir()
    shutil.copy(run.root / "run.json", away)
    shutil.copytree(run.root / "data", away / "data")
    for number in (0, 1):
        (away / f"rounds/{number:04d}").mkdir(parents=True)
        shutil.copy(run.round(number).delta, away / f"rounds/{number:04d}")
    done = fedcli("train-client", "--id", "1", "--threads", "1", "--run", "away", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "round 1: the global model is rebuilt from global.delta.safetensors" in done.err
    ours = replace(run.round(2), root=away).update("1")
    assert ours.read_bytes() == run.round(2).update("1").read_bytes()


@pytest.mark.parametrize("signed", [False, True])
def test_a_coordinator_sends_the_delta(tmp_path: Path, signed: bool) -> None:
    key = ("--key", "k.key") if signed else ()
    if signed:
        assert fedcli("keygen", "k.key", cwd=tmp_path).status == 0
    made = fedcli(
        "init", "--classes", "a,b", "--clients", "0,1", "--model", "linear", *BOTH, *key,
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert made.status == 0, made.err
    assert any(path.endswith("0000/global.delta.safetensors") for path in made.json["send"])
    assert not any(path.endswith("global.safetensors") for path in made.json["send"])
