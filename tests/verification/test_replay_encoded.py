"""Encoded updates are replayed to the byte: what is sent, and the residual that is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.small_runs import SMALL, contents, facts, small_run

from fedcli.formats.checkpoint import digest, save
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import CannotReplayError, DifferenceError, UserCode
from fedcli.verification.replay_training import replay_training

pytestmark = pytest.mark.usefixtures("unsynced")

PLANS: dict[str, tuple[dict[str, Any], AggregatePlan]] = {
    "round": ({"encode": "round=0.07", "feedback": 0.3}, AggregatePlan()),
    "scaffold": (
        {"encode": "topk=0.05", "feedback": 1.0, "algorithm": "scaffold"},
        AggregatePlan(strategy="scaffold"),
    ),
    "fedbuff": (
        {"encode": "sign", "feedback": 1.0},
        AggregatePlan(strategy="fedbuff", buffer=1, max_staleness=3),
    ),
}


def rounds(root: Path, training: dict[str, Any], rule: AggregatePlan) -> Run:
    """Three rounds; the update of client 0 of the second is left out, or comes late."""
    plan = Plan(SMALL.with_options(training), rule)
    run = small_run(root, plan, clients=("0", "1"), count=20)
    for exclude in ((), ("0",), ()):
        train_client(run, ["all"], execution=Execution(threads=1))
        aggregate(run, exclude=exclude)
    return run


@pytest.mark.parametrize(("training", "rule"), PLANS.values(), ids=PLANS)
def test_training_gives_the_same_bytes_again(
    tmp_path: Path, training: dict[str, Any], rule: AggregatePlan
) -> None:
    run = rounds(tmp_path / "run", training, rule)
    start = 2 if rule.strategy == "fedbuff" else 1
    assert facts(run, 3, "0")["state"] == digest(run.round(start).client_state("0"))
    for round_ in run.complete_rounds()[1:]:
        for client in ("0", "1"):
            replay_training(run, round_, client, UserCode())


def test_verify_replays_clients_and_server(tmp_path: Path) -> None:
    result = verify(rounds(tmp_path / "run", *PLANS["scaffold"]).root, replay=UserCode())
    assert result.sound
    parts = {part.what: (part.files, part.sound) for part in result.parts}
    assert parts["trained again"] == (5, 5)  # and not what was left out
    assert parts["aggregated again"] == (3, 3)


def test_a_residual_that_its_training_does_not_leave_is_found(tmp_path: Path) -> None:
    run = rounds(tmp_path / "run", *PLANS["round"])
    path = run.round(3).client_state("0")
    state, said = contents(path)
    state["residual/fc.bias"] += np.float32(1)
    save(path, state, said)
    with pytest.raises(DifferenceError, match=r"'residual/fc\.bias' is the first that differs"):
        replay_training(run, run.round(3), "0", UserCode())


def test_without_its_residual_an_update_cannot_be_replayed(tmp_path: Path) -> None:
    run = rounds(tmp_path / "run", *PLANS["round"])
    run.round(2).client_state("1").unlink()
    with pytest.raises(CannotReplayError, match="the state that client 1 started from is not in"):
        replay_training(run, run.round(3), "1", UserCode())


def test_an_update_that_claims_another_encoding_is_found(tmp_path: Path) -> None:
    run = rounds(tmp_path / "run", *PLANS["round"])
    tensors, said = contents(run.round(3).update("0"))
    lied = replace(said, training=replace(said.training, encode="int8"))
    save(run.round(3).update("0"), tensors, lied)
    with pytest.raises(DifferenceError, match="differs when replayed"):
        replay_training(run, run.round(3), "0", UserCode())
