"""What participants claim counts within a bound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import training_record

from fedcli.formats.manifest import BoundedClaim
from fedcli.strategies import WEIGHTINGS
from fedcli.strategies.claims import Expected, bounded_claims, of_the_others, within_reach
from fedcli.strategies.decision import Contributor

PLAN = Expected(batch_size=64, epochs=2)
HONEST = {"steps": 26, "epochs": 2, "batch_size": 64, "lr": 0.1, "momentum": 0.9}


def client(name: object, examples: int = 800, partial: int = 1, **training: Any) -> Contributor:
    record = training_record({**HONEST, **training})
    return Contributor(str(name), Path(f"updates/{name}"), examples, partial, 0, record)


def examples_of(claimed: list[int], expected: Expected = PLAN) -> list[int]:
    clients = [client(i, count) for i, count in enumerate(claimed)]
    return [one.num_examples for one in bounded_claims(clients, expected).contributors]


def steps_of(
    *clients: Contributor, expected: Expected = PLAN
) -> tuple[list[int | None], list[BoundedClaim]]:
    found = bounded_claims(clients, expected)
    return [one.training.steps for one in found.contributors], list(found.bounded)


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=9))
def test_the_median_of_the_others_is_that_of_the_list_without_oneself(values: list[int]) -> None:
    found = of_the_others(np.array(values, np.float64)).tolist()
    for index, median in enumerate(found):
        others = sorted(values[:index] + values[index + 1 :])
        assert median == others[len(others) // 2]


def test_examples_count_ten_times_the_others_at_most() -> None:
    assert examples_of([600] * 9 + [10**9]) == [600] * 9 + [6000]
    assert examples_of([600, 700, 5000]) == [600, 700, 5000]
    assert examples_of([600, 10**9]) == [600, 10**9]  # of two, nobody can tell which is wrong


@pytest.mark.parametrize("claim", [1, 10**9])
@pytest.mark.parametrize("honest", [2, 3, 5, 10])
def test_no_minority_bounds_the_claims_of_the_others(honest: int, claim: int) -> None:
    liars = (honest - 1) if honest < 5 else (honest // 2)
    assert examples_of([600] * honest + [claim] * liars)[:honest] == [600] * honest


def test_what_the_server_knows_or_a_person_vouches_for_needs_no_comparison() -> None:
    known = Expected(64, 2, known_examples=lambda: {"2": 20_000})
    assert examples_of([600, 600, 20_000], known) == [600, 600, 20_000]
    assert examples_of([600, 600, 10**9], known) == [600, 600, 20_000]
    assert examples_of([600, 600, 20_000], Expected(64, 2, max_examples=20_000))[2] == 20_000


def test_steps_are_those_that_follow_from_the_plan() -> None:
    honest = [client(i) for i in range(6)]
    found, bounded = steps_of(*honest, client(6, steps=10**6))
    assert found == [26] * 7
    assert bounded == [BoundedClaim("6", "steps", 1e6, 26.0)]
    assert steps_of(client(0), client(1, steps=10**6))[0] == [26, 26]  # of two as well
    assert steps_of(client(0, steps=2**63 - 1, epochs=None))[0] == [2**63 - 1]  # alone
    by_steps = Expected(64, 2, steps=40)
    assert steps_of(client(0, steps=10**6, epochs=1), expected=by_steps)[0] == [40]


def test_other_epochs_than_the_plans_count_within_ten_times_the_others() -> None:
    honest = [client(i) for i in range(6)]
    assert steps_of(*honest, client(6, steps=65, epochs=5))[0][6] == 65
    assert steps_of(*honest, client(6, steps=1300, epochs=100))[0][6] == 260
    assert steps_of(*honest, client(6, steps=10**6, epochs=None))[0][6] == 260
    assert steps_of(*honest, client(6, 10**9, steps=10**6))[0][6] == 250  # of 8,000 examples


def test_partial_means_are_left_as_they_are() -> None:
    edge = client("edge", 10**6, partial=50)
    found = bounded_claims([client(0), client(1), client(2), edge], PLAN)
    assert found.contributors[3] is edge
    assert found.bounded == ()


@pytest.mark.parametrize(
    "claim",
    [
        {"steps": 10**6},
        {"steps": 10**6, "epochs": None},
        {"steps": 38_462 * 26, "epochs": 76_924},
        {"momentum": 0.999999},
        {"steps": 10**6, "epochs": None, "momentum": 0.999999},
        {"steps": 1},
        {"lr": 1e3, "proximal": 1e-3},
    ],
)
def test_no_claim_scales_the_step_of_fednova(claim: dict[str, Any]) -> None:
    honest = [client(i) for i in range(6)]
    claims = bounded_claims([*honest, client(6, **claim)], PLAN)
    shares = WEIGHTINGS["fednova"].weigh(claims.contributors, None, {})
    weights = shares.weights / shares.divisor
    # at worst, one of seven lengths is ten times as long, or a tenth
    assert weights.sum() <= (6 + 10) / 7 * 1.001
    assert weights.max() <= 10 / 7


def test_with_the_plan_known_false_steps_change_nothing() -> None:
    honest = [client(i) for i in range(7)]
    before = WEIGHTINGS["fednova"].weigh(honest, None, {})
    claims = bounded_claims([*honest[:6], client(6, steps=10**6)], PLAN)
    after = WEIGHTINGS["fednova"].weigh(claims.contributors, None, {})
    assert (after.weights / after.divisor).tolist() == (before.weights / before.divisor).tolist()


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("loss", [0.0, 1e-9, 1e29])
def test_no_loss_takes_a_round_of_q_fedavg_over(q: float, loss: float) -> None:
    clients = [client(i, initial_loss=2.0) for i in range(6)] + [client(6, initial_loss=loss)]
    shares = WEIGHTINGS["qfedavg"].weigh(clients, np.ones(7), {"q": q})
    weights = shares.weights / shares.divisor
    assert weights[6] <= 10**q * weights[0] * 1.001
    honest = WEIGHTINGS["qfedavg"].weigh(clients[:6], np.ones(6), {"q": q})
    assert weights[:6].sum() > 1e-3 * (honest.weights / honest.divisor).sum()


def test_a_value_that_counts_as_it_is_claimed_is_not_listed() -> None:
    clients = [client(i) for i in range(3)]
    used, bounded = within_reach(clients, "length", [1.0, 9.0, 10.0], both=True)
    assert (used.tolist(), bounded) == ([1.0, 9.0, 10.0], ())
