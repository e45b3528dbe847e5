"""What a round will exchange, as ``status`` says before anybody has trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.own_code import write_module
from support.small_runs import SMALL, play, small_run

from fedcli.cli.render.status import render
from fedcli.formats.checkpoint import Checkpoint
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.status import status
from fedcli.steps.train_client import train_client

pytestmark = pytest.mark.usefixtures("unsynced")
NETWORK = """
from torch import nn


def network(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes)
    )
"""


def sent(run: Run) -> int:
    """The bytes of the tensors in the update that client 0 sends."""
    own = run.info.model.name if run.info.model.is_users_own else None
    train_client(run, ["0"], execution=Execution(threads=1), own_model=own)
    with Checkpoint(run.round(1).update("0")) as update:
        return max(info.stop for info in update.layout.values())


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        ({}, True),
        ({"freeze": ("4",)}, True),
        ({"encode": "float16"}, True),
        ({"encode": "int8", "local_layers": ("4.bias",)}, True),
        ({"encode": "randk=0.1", "feedback": 1.0}, True),
        ({"algorithm": "scaffold"}, True),
        ({"algorithm": "scaffold", "encode": "sign"}, True),
        ({"encode": "topk=0.1"}, False),
    ],
)
def test_what_is_said_is_what_is_sent(
    options: dict[str, Any], exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(monkeypatch, tmp_path, "network_of_mine", NETWORK)
    train = replace(SMALL, epochs=1).with_options(options)
    plan = Plan(train, AggregatePlan(strategy=train.local.strategy))
    run = small_run(tmp_path / "run", plan, model="network_of_mine:network")
    said = status(run).traffic
    assert said is not None
    assert said.received == run.round(0).global_model.stat().st_size
    assert said.exact == exact
    assert said.sent == (sent(run) if exact else pytest.approx(sent(run), rel=0.25))


@pytest.mark.parametrize("spec", ["int8", "sign", "randk=0.1", "topk=0.1"])
def test_what_is_received_of_an_encoded_model(spec: str, tmp_path: Path) -> None:
    plan = Plan(replace(SMALL, epochs=1), AggregatePlan(encode_global=spec))
    run = small_run(tmp_path / "run", plan)
    said = status(run).traffic
    assert said is not None
    play(run, 1, {}, {})
    with Checkpoint(run.round(1).delta) as delta:
        found = sum(i.stop - i.start for n, i in delta.layout.items() if n != "encoded/held")
    assert said.exact_received == (spec != "topk=0.1")
    assert said.received == (found if said.exact_received else pytest.approx(found, rel=0.25))


def test_layers_that_only_the_network_knows_make_it_an_estimate(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(replace(SMALL, algorithm="fedbn")))
    said = status(run).traffic
    assert said is not None
    assert not said.exact


@pytest.mark.parametrize(
    ("model", "encode", "words"),
    [
        ("linear", None, "receives 1.9 kB a round and sends 1.5 kB"),
        ("linear", "round=0.07", "a round and sends about 0.1 kB"),
        ("cnn", "round=1.0", "a round and sends a file of unknown size"),
    ],
)
def test_a_person_reads_what_is_exact(
    model: str, encode: str | None, words: str, tmp_path: Path
) -> None:
    run = small_run(tmp_path / "run", Plan(replace(SMALL, encode=encode)), model=model)
    assert words in str(list(render(status(run))[0].columns[1].cells))  # type: ignore[union-attr]


def test_a_broken_starting_model_does_not_hide_the_rest(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    run.round(0).global_model.write_bytes(b"nonsense")
    found = status(run)
    assert found.traffic is None
    assert found.missing == ("0", "1", "2")
