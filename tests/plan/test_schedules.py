"""Learning rates over rounds."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.errors import UsageError
from fedcli.plan import TrainPlan
from fedcli.plan.schedules import SCHEDULES


def rates(count: int, **options: Any) -> list[float]:
    plan = TrainPlan(lr=0.8, **options)
    return [plan.learning_rate(number) for number in range(1, count + 1)]


def test_constant() -> None:
    assert rates(3) == [0.8] * 3


def test_cosine_by_hand() -> None:
    """Loshchilov & Hutter 2017, equation 5: half the rate half-way, and never 0."""
    found = rates(5, lr_schedule="cosine", lr_rounds=4)
    half = math.sqrt(0.5)
    assert found == pytest.approx([0.8, 0.4 * (1 + half), 0.4, 0.4 * (1 - half), 0.4 * (1 - half)])


def test_step_by_hand() -> None:
    found = rates(6, lr_schedule="step", lr_every=2, lr_decay=0.5)
    assert found == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_exponential_by_hand() -> None:
    assert rates(3, lr_schedule="exponential", lr_decay=0.5) == [0.8, 0.4, 0.2]


def test_a_warm_up_climbs_in_equal_steps_and_the_schedule_starts_after_it() -> None:
    found = rates(7, lr_schedule="exponential", lr_decay=0.5, lr_warmup=4)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.2])
    assert rates(4, lr_warmup=0) == rates(4)
    cosine = rates(6, lr_schedule="cosine", lr_rounds=6, lr_warmup=2)
    assert cosine[2:] == pytest.approx(rates(4, lr_schedule="cosine", lr_rounds=4))


OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "constant": st.just({}),
    "cosine": st.fixed_dictionaries({"lr_rounds": st.integers(51, 200)}),
    "step": st.fixed_dictionaries({"lr_every": st.integers(1, 9), "lr_decay": st.floats(0.1, 1)}),
    "exponential": st.fixed_dictionaries({"lr_decay": st.floats(0.5, 1)}),
}


@given(st.data(), st.sampled_from(list(SCHEDULES)), st.integers(0, 50), st.integers(1, 250))
def test_every_rate_is_above_0_and_at_most_the_full_one(
    data: st.DataObject, name: str, warmup: int, number: int
) -> None:
    plan = TrainPlan(lr=0.8, lr_schedule=name, lr_warmup=warmup, **data.draw(OPTIONS[name]))
    rate = plan.learning_rate(number)
    assert 0 < rate <= 0.8
    if number > warmup:
        assert rate >= plan.learning_rate(number + 1)
    else:
        assert rate == pytest.approx(0.8 * number / warmup)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_schedule": "linear"}, "--lr-schedule: unknown value 'linear'; known: constant"),
        ({"lr_schedule": "cosine"}, "--lr-rounds: the schedule cosine needs it"),
        ({"lr_schedule": "step", "lr_every": 2}, "--lr-decay: the schedule step needs it"),
        ({"lr_every": 2}, "--lr-every: the schedule constant does not use it"),
        (
            {"lr_schedule": "exponential", "lr_decay": 0.5, "lr_rounds": 3},
            "--lr-rounds: the schedule exponential does not use it",
        ),
        ({"lr_schedule": "exponential", "lr_decay": 1.5}, "--lr-decay: expected a factor"),
        (
            {"lr_schedule": "cosine", "lr_rounds": 5, "lr_warmup": 5},
            "--lr-rounds: expected more than the 5 of --lr-warmup, found 5",
        ),
    ],
)
def test_a_schedule_with_other_options_than_its_own_is_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        TrainPlan(**options)


def test_another_schedule_takes_no_options_of_the_one_before() -> None:
    plan = TrainPlan(lr_schedule="step", lr_every=2, lr_decay=0.5)
    assert plan.with_options({"lr_schedule": "constant"}) == TrainPlan()
    assert plan.with_options({"lr_every": 3}).lr_decay == 0.5
