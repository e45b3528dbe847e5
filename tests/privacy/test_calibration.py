"""Calibration inverts the accountant."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.private import REPLACE, discrete, gaussian, needs_dp_accounting, sampled

from fedcli.errors import UsageError
from fedcli.formats.ledger import PrivacyEvent
from fedcli.privacy import affords, calibrate, epsilon_at


@pytest.mark.parametrize(("epsilon", "sigma"), [(8, 1.89809), (2, 6.30499)])
def test_sums_over_all(epsilon: float, sigma: float) -> None:
    assert calibrate(gaussian(1, 10), epsilon, 1e-5) == pytest.approx(sigma, abs=1e-5)


@needs_dp_accounting
def test_samples() -> None:
    assert calibrate(sampled(0.1, 1, 100), 4, 1e-5) == pytest.approx(1.38599, abs=1e-4)


@given(
    epsilon=st.floats(0.01, 100),
    delta=st.floats(1e-10, 1e-2),
    rounds=st.integers(1, 10_000),
    event=st.sampled_from([gaussian(1), gaussian(1, 1, REPLACE), discrete(1, 1e-7, 10**6)]),
)
def test_the_noise_just_keeps_the_target(
    epsilon: float, delta: float, rounds: int, event: PrivacyEvent
) -> None:
    sigma = calibrate(replace(event, count=rounds), epsilon, delta)
    reached = epsilon_at([replace(event, sigma=sigma, count=rounds)], delta)
    assert epsilon * (1 - 1e-5) <= reached <= epsilon


@needs_dp_accounting
@pytest.mark.parametrize(
    ("event", "epsilon"), [(sampled(0.02, 1, 500), 0.5), (sampled(0.005, 1, 20000), 1.0)]
)
def test_the_noise_on_samples_just_keeps_the_target(event: PrivacyEvent, epsilon: float) -> None:
    sigma = calibrate(event, epsilon, 1e-5)
    reached = epsilon_at([replace(event, sigma=sigma)], 1e-5)
    assert epsilon * (1 - 1e-5) <= reached <= epsilon


def test_the_planned_rounds_are_afforded_one_by_one_and_no_more() -> None:
    sigma = calibrate(gaussian(1, 30), 3.0, 1e-5)
    events: list[PrivacyEvent] = []
    while affords(events, [gaussian(sigma)], 3.0, 1e-5):
        events.append(gaussian(sigma))
    assert len(events) == 30


def test_what_was_spent_leaves_less() -> None:
    spent = [gaussian(6, 5)]
    sigma = calibrate(gaussian(1, 10), 3.0, 1e-5, spent)
    assert sigma > calibrate(gaussian(1, 10), 3.0, 1e-5)
    assert epsilon_at([*spent, gaussian(sigma, 10)], 1e-5) == pytest.approx(3.0, rel=1e-5)


def test_a_spent_budget_is_refused() -> None:
    with pytest.raises(UsageError, match=r"more than the 4\.377 already spent, found 4"):
        calibrate(gaussian(1), 4, 1e-5, [gaussian(1)])


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_a_target_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match="target epsilon: expected more than 0, found"):
        calibrate(gaussian(1), epsilon, 1e-5)


def test_a_target_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(UsageError, match="no noise multiplier up to 1e\\+09 keeps it"):
        calibrate(gaussian(1, 2**62), 1e-3, 1e-12)
