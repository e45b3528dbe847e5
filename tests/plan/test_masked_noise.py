"""The grid of masked noise: no sum overflows, and no step hides in a cell of the grid."""

import math
from dataclasses import replace

import pytest

from fedcli.errors import UsageError
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.plan.secagg import SecaggOptions, SecaggPlan, masked_plan

RULE = AggregatePlan(weighting="uniform", update_clip=1.0, update_noise=1.0)


def reach(secagg: SecaggPlan, rule: AggregatePlan, members: int) -> float:
    noise = MaskedNoise.of(secagg, rule)
    assert noise is not None
    return members * min(2 ** (secagg.bits - 1), noise.radius) + noise.most(members)


@pytest.mark.parametrize("members", [3, 4, 10, 100, 1000])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("largest", [None, 0.1, 3.0])
def test_the_usual_grid_is_the_finest_that_cannot_overflow(
    members: int, sigma: float, largest: float | None
) -> None:
    rule = replace(RULE, update_noise=sigma)
    found = SecaggOptions(secagg=True, secagg_clip=largest).planned(members, rule)
    assert found is not None
    assert found.clip == (largest or 1.0)
    assert members * 2 ** (found.bits - 1) < 2**31
    assert reach(found, rule, members) < 2**31
    finer = replace(found, bits=found.bits + 1)
    too_fine = members * 2**found.bits >= 2**31 or reach(finer, rule, members) >= 2**31
    assert found.bits == 30 or too_fine
    masked_plan(Plan(aggregate=rule), found, members)


def test_a_grid_on_which_noise_overflows_is_refused() -> None:
    secagg = SecaggOptions(secagg=True, secagg_bits=28).planned(10, RULE)
    assert secagg is not None
    most = SecaggOptions(secagg=True).planned(10, RULE)
    assert most is not None
    with pytest.raises(
        UsageError, match=rf"--secagg-bits 28: .*10 steps and their noise .* at most {most.bits}$"
    ):
        masked_plan(Plan(aggregate=RULE), secagg, 10)
    masked_plan(Plan(aggregate=RULE), replace(secagg, bits=most.bits), 10)


def test_noise_that_the_grid_cannot_show_is_refused() -> None:
    rule = replace(RULE, update_noise=0.01)
    secagg = SecaggOptions(secagg=True, secagg_bits=8).planned(4, rule)
    assert secagg is not None
    with pytest.raises(UsageError, match=r"--update-noise 0.01: .* of 0.739 steps .* expected 4"):
        masked_plan(Plan(aggregate=rule), secagg, 4)


def test_the_members_share_the_variance_exactly() -> None:
    secagg = SecaggPlan(threshold=7, clip=0.3, bits=20)
    noise = MaskedNoise.of(secagg, replace(RULE, update_clip=0.7, update_noise=1.1))
    assert noise is not None
    whole = noise.variance * 7
    assert math.isqrt(whole.numerator) ** 2 == whole.numerator
    assert math.isqrt(whole.denominator) ** 2 == whole.denominator
    assert math.isclose(math.sqrt(whole), 1.1 * 0.7 / (0.3 / 2**19))


@pytest.mark.parametrize(
    "rule", [AggregatePlan(), AggregatePlan(update_noise=0.0)], ids=["no privacy", "no clipping"]
)
def test_without_a_norm_there_is_nothing_to_add(rule: AggregatePlan) -> None:
    assert MaskedNoise.of(SecaggPlan(3, 0.1, 20), rule) is None
    with pytest.raises(UsageError, match="--secagg-clip: say how much"):
        SecaggOptions(secagg=True).planned(4, rule)


def test_adaptive_clipping_is_refused_under_masks() -> None:
    rule = AggregatePlan(update_noise=1.0, adaptive_clip=0.5)
    with pytest.raises(UsageError, match=r"--adaptive-clip: is impossible with --secagg: members"):
        masked_plan(Plan(aggregate=rule), SecaggPlan(3, 0.1, 20), 4)
