"""The noise that keeps a target, and the limit of a plan."""

from typing import Any

import pytest

from fedcli.errors import UsageError
from fedcli.formats.records import decode
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import TrainPlan
from fedcli.plan.departures import Departures
from fedcli.plan.private_events import (
    privacy_limit,
    private_steps,
    public_round_event,
    round_event,
    with_noise,
)
from fedcli.plan.train import training_over_file
from fedcli.privacy import PrivacyLimit, epsilon_at
from fedcli.training.loop import steps_of

DP: dict[str, Any] = {"dp": "example", "clip": 1.0, "batch_size": 32, "epochs": 2}
TARGET = {**DP, "target_epsilon": 3.0, "target_rounds": 10, "delta": 1e-5}


@pytest.mark.parametrize("examples", [5, 320])
def test_the_target_is_kept_with_three_digits(examples: int) -> None:
    plan = with_noise(TrainPlan.of(**TARGET), examples)
    sigma = plan.noise_multiplier
    assert sigma is not None
    assert repr(sigma) == repr(float(f"{sigma:.3g}"))
    rounds = [public_round_event(plan, examples)] * 10
    assert 2.9 < epsilon_at(rounds, 1e-5) <= 3.0
    assert epsilon_at([round_event(plan, examples)] * 10, 1e-5) <= 3.0
    assert with_noise(plan, examples) == plan


def test_clients_that_look_alike_have_the_same_noise() -> None:
    """Else the noise would tell the number of examples better than q does."""
    plan = TrainPlan.of(**TARGET)
    assert with_noise(plan, 318).noise_multiplier == with_noise(plan, 320).noise_multiplier


@pytest.mark.parametrize("more", [{}, {"epochs": 3}, {"steps": 7}])
def test_steps_are_those_of_training(more: dict[str, Any]) -> None:
    plan = TrainPlan.of(**{**DP, "noise_multiplier": 1.0}).with_options(more)
    assert [private_steps(plan, n) for n in (1, 40, 999)] == [
        steps_of(plan, n) for n in (1, 40, 999)
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_epsilon": 1.0}, "--target-epsilon: needs --dp example"),
        ({"max_epsilon": 1.0}, "--max-epsilon: needs --dp example"),
        ({"delta": 1e-5}, "--delta: needs --dp example"),
        ({**TARGET, "noise_multiplier": 1.0}, "--noise-multiplier and --target-epsilon: give one"),
        ({**TARGET, "target_rounds": None}, "--target-epsilon and --target-rounds: give both"),
        ({**TARGET, "delta": None}, "--target-epsilon: needs --delta"),
        ({**TARGET, "clip": None}, "--dp example: needs --clip"),
        ({**DP, "noise_multiplier": 1.0, "target_rounds": 3}, "--target-epsilon and --target-r"),
        ({**DP, "noise_multiplier": 1.0, "max_epsilon": 3.0}, "--max-epsilon: needs --delta"),
        ({**TARGET, "delta": 1.0}, "--delta: expected a number above 0"),
    ],
)
def test_what_belongs_together_is_given_together(options: dict[str, Any], said: str) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    with pytest.raises(UsageError) as refused:
        TrainPlan.of(**given)
    assert refused.value.message.startswith(said)


def test_a_target_is_a_limit_unless_there_is_one() -> None:
    plan = TrainPlan.of(**TARGET)
    assert privacy_limit(plan) == PrivacyLimit(3.0, 1e-5, "--target-epsilon")
    limited = plan.with_options({"max_epsilon": 5.0})
    assert privacy_limit(limited) == PrivacyLimit(5.0, 1e-5, "--max-epsilon")
    assert privacy_limit(TrainPlan.of(**DP, noise_multiplier=1.0, delta=1e-5)) is None
    assert privacy_limit(TrainPlan()) is None


def test_noise_and_target_replace_each_other() -> None:
    plan = TrainPlan.of(**TARGET)
    typed = plan.with_options({"noise_multiplier": 2.0})
    assert (typed.target_epsilon, typed.target_rounds, typed.delta) == (None, None, 1e-5)
    back = typed.with_options({"target_epsilon": 4.0, "target_rounds": 1})
    assert (back.noise_multiplier, back.target_epsilon) == (None, 4.0)
    assert plan.with_options({"target_epsilon": 4.0}).target_rounds == 10
    over = training_over_file(TARGET, {"noise_multiplier": 2.0})
    assert over == {**DP, "delta": 1e-5, "noise_multiplier": 2.0}
    over = training_over_file({**DP, "noise_multiplier": 2.0}, {"target_epsilon": 4.0})
    assert over == {**DP, "target_epsilon": 4.0}
    assert training_over_file(TARGET, {"target_epsilon": 1.0}) == {**TARGET, "target_epsilon": 1.0}


def test_a_plan_with_a_target_survives_its_file() -> None:
    plan = TrainPlan.of(**TARGET, max_epsilon=4.0)
    assert TrainPlan.from_mapping(plan.as_json(), "plan") == plan


def test_the_noise_that_a_target_chose_is_no_departure() -> None:
    plan = TrainPlan.of(**TARGET)
    done = decode(TrainingRecord, with_noise(plan, 20).recorded(1))
    assert Departures(plan, 1).of(done) == {}
    other = decode(TrainingRecord, with_noise(plan, 20).with_options({"clip": 2.0}).recorded(1))
    assert Departures(plan, 1).of(other) == {"clip": 2.0}
