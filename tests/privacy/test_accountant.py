"""The accountant, against values on which three independent accountants agree."""

import math
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.private import ADD_REMOVE, REPLACE, discrete, gaussian, needs_dp_accounting, sampled

from fedcli.errors import MissingDependencyError, UsageError
from fedcli.formats.ledger import PrivacyEvent
from fedcli.privacy import Budget, affords, budget, delta_at, epsilon_at

sigmas = st.floats(0.3, 50)
deltas = st.floats(1e-10, 0.1)
counts = st.integers(1, 10_000)

# q, σ, T, δ, ε: dp-accounting 0.6.0 on a grid of 1e-4; PRV and RDP accountants lie just above.
SAMPLED = [
    (0.01, 1, 1000, 1e-5, 1.82824),
    (0.01, 4, 10000, 1e-5, 0.94700),
    (256 / 60000, 1.1, 14062, 1e-5, 2.38169),
    (0.1, 1, 100, 1e-5, 7.04660),
    (0.1, 2, 50, 1e-3, 1.04625),
    (0.5, 1.5, 20, 1e-3, 6.00253),
    (0.001, 0.6, 5000, 1e-6, 2.74842),
]


@needs_dp_accounting
@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "epsilon"), SAMPLED)
def test_sampled_sums(q: float, sigma: float, steps: int, delta: float, epsilon: float) -> None:
    found = budget([sampled(q, sigma, steps)], delta)
    assert found.epsilon == pytest.approx(epsilon, abs=1e-3)
    assert not found.exact


@pytest.mark.parametrize(
    ("sigma", "rounds", "delta", "epsilon"),
    [(1, 1, 1e-5, 4.37718), (5, 10, 1e-5, 2.59438), (10, 50, 1e-6, 3.30760)],
)
def test_sums_over_all(sigma: float, rounds: int, delta: float, epsilon: float) -> None:
    found = budget([gaussian(sigma, rounds)], delta)
    assert found == Budget(pytest.approx(epsilon, abs=1e-5), delta, ADD_REMOVE, True)
    assert delta_at([gaussian(sigma, rounds)], epsilon) == pytest.approx(delta, rel=1e-4)


def test_replacing_one_costs_twice_the_sensitivity() -> None:
    assert epsilon_at([gaussian(5, 10, REPLACE)], 1e-5) == pytest.approx(5.75948, abs=1e-5)
    assert epsilon_at([gaussian(5, 10, REPLACE)], 1e-5) == epsilon_at([gaussian(2.5, 10)], 1e-5)


@needs_dp_accounting
def test_replacing_one_in_a_sample() -> None:
    found = epsilon_at([sampled(0.1, 1, 100, REPLACE)], 1e-5)
    assert found == pytest.approx(10.51638, abs=1e-3)


@needs_dp_accounting
def test_delta_inverts_epsilon_for_samples() -> None:
    events = [sampled(0.1, 1, 100)]
    assert delta_at(events, epsilon_at(events, 1e-5)) == pytest.approx(1e-5, rel=1e-3)


def test_different_noise_composes() -> None:
    both = epsilon_at([gaussian(3), gaussian(4)], 1e-5)
    assert both == pytest.approx(epsilon_at([gaussian(12 / 5)], 1e-5), rel=1e-9)


@needs_dp_accounting
def test_sums_over_all_compose_with_samples() -> None:
    mixed = epsilon_at([sampled(0.1, 1, 50), gaussian(2)], 1e-5)
    alone = epsilon_at([sampled(0.1, 1, 50)], 1e-5)
    assert max(alone, epsilon_at([gaussian(2)], 1e-5)) < mixed
    assert mixed < alone + epsilon_at([gaussian(2)], 1e-9)
    nearly_all = epsilon_at([sampled(1 - 1e-9, 3, 10), gaussian(4)], 1e-5)
    assert nearly_all == pytest.approx(epsilon_at([gaussian(3, 10), gaussian(4)], 1e-5), abs=1e-3)


def test_mixed_relations_count_as_replacements() -> None:
    found = budget([gaussian(5, 4), gaussian(5, 6, REPLACE)], 1e-5)
    assert found == budget([gaussian(5, 10, REPLACE)], 1e-5)
    assert found.relation == REPLACE


def test_nothing_spent_costs_nothing() -> None:
    assert budget([], 1e-5) == Budget(0.0, 1e-5, ADD_REMOVE, True)
    assert delta_at([], 0.0) == 0


def test_without_noise_nothing_is_protected() -> None:
    bare = replace(gaussian(0), clip=None)
    assert budget([bare, gaussian(5)], 1e-5).epsilon == math.inf
    assert delta_at([sampled(0.1, 0)], 100.0) == 1
    assert not affords([], [bare], 1e9, 1e-5)
    assert affords([], [bare], math.inf, 1e-5)


@given(sigma=sigmas, count=st.integers(1, 200), delta=deltas)
def test_many_events_cost_to_the_last_digit_what_one_of_as_many_sums_does(
    sigma: float, count: int, delta: float
) -> None:
    singly = [*[gaussian(sigma)] * count, *[discrete(sigma, 1e-5, 1000)] * count]
    together = [discrete(sigma, 1e-5, 1000, count), gaussian(sigma, count)]
    assert epsilon_at(singly, delta) == epsilon_at(together, delta)


@given(sigma=sigmas, count=counts, delta=deltas, more=st.integers(1, 100))
def test_epsilon_grows_with_rounds_and_falls_with_noise_and_delta(
    sigma: float, count: int, delta: float, more: int
) -> None:
    base = epsilon_at([gaussian(sigma, count)], delta)
    assert epsilon_at([gaussian(sigma, count + more)], delta) >= base
    assert epsilon_at([gaussian(sigma + more, count)], delta) <= base
    assert epsilon_at([gaussian(sigma, count)], min(0.9, delta * (1 + more))) <= base
    assert epsilon_at([gaussian(sigma, count), gaussian(more)], delta) >= base


@needs_dp_accounting
@pytest.mark.parametrize(
    "worse", [sampled(0.06, 1, 60), sampled(0.05, 0.9, 60), sampled(0.05, 1, 70)]
)
def test_samples_cost_more_with_larger_ones_less_noise_or_more_steps(worse: PrivacyEvent) -> None:
    base = sampled(0.05, 1, 60)
    assert epsilon_at([base], 1e-5) < epsilon_at([worse], 1e-5)
    assert epsilon_at([base], 1e-6) > epsilon_at([base], 1e-5)


@needs_dp_accounting
def test_a_hundred_different_samples_cost_as_much_as_alike_ones_and_take_no_minute() -> None:
    began = time.process_time()
    different = epsilon_at([sampled(0.01 + i * 1e-6, 1.1, 20) for i in range(100)], 1e-5)
    assert time.process_time() - began < 30
    assert different == pytest.approx(epsilon_at([sampled(0.01, 1.1, 2000)], 1e-5), abs=0.02)


@needs_dp_accounting
def test_a_sample_never_costs_more_than_all() -> None:
    strange = [sampled(1e-3, 1e-6, 1), sampled(0.05, 4e5, 3 * 10**4), sampled(0.2, 7e5, 3)]
    for each in (sampled(0.9, 1, 3), sampled(0.5, 0.02, 10), *strange):
        everybody = gaussian(each.sigma, each.count)
        for delta in (1e-5, 1e-15):
            assert epsilon_at([each], delta) <= epsilon_at([everybody], delta)
        assert delta_at([each], 1.0) <= delta_at([everybody], 1.0)


@needs_dp_accounting
@pytest.mark.parametrize(
    "event",
    [
        sampled(0.5, 1e-300, 10),
        sampled(0.5, 1, 2**62),
        sampled(0.01, 0.01, 1000),
        sampled(5e-324, 1, 1),
        sampled(1e-9, 1e300, 2**62),
        gaussian(1e-6),
        gaussian(1e-2, 2**62),
    ],
)
def test_no_event_of_a_strange_file_takes_long(event: PrivacyEvent) -> None:
    began = time.process_time()
    found = budget([event, sampled(0.1, 1.0)], 1e-5)
    assert found.epsilon >= 0
    assert not found.exact
    assert time.process_time() - began < 20


positive = st.floats(min_value=5e-324, allow_infinity=False)
large = st.integers(1, 2**63 - 1)


@given(
    sigma=st.floats(0, allow_infinity=False),
    clip=positive,
    grid=positive,
    sizes=st.tuples(large, large, large),
    delta=st.floats(1e-299, 1, exclude_max=True),
    epsilon=st.floats(0, 1e308),
)
def test_every_event_of_a_strange_file_has_a_cost(
    sigma: float,
    clip: float,
    grid: float,
    sizes: tuple[int, int, int],
    delta: float,
    epsilon: float,
) -> None:
    count, coordinates, parties = sizes
    strange = replace(discrete(sigma, grid, coordinates, count, parties), clip=clip)
    for events in ([strange], [gaussian(sigma, count)], [strange, gaussian(1)]):
        assert epsilon_at(events, delta) >= 0
        assert 0 <= delta_at(events, epsilon) <= 1


def test_afforded_is_what_stays_within_the_largest_epsilon() -> None:
    spent, more = [gaussian(5, 9)], [gaussian(5)]
    whole = epsilon_at([gaussian(5, 10)], 1e-5)
    assert affords(spent, more, whole, 1e-5)
    assert not affords(spent, more, math.nextafter(whole, 0), 1e-5)


def test_samples_need_dp_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(MissingDependencyError) as caught:
        budget([sampled(0.123, 1.5, 7)], 1e-5)
    assert caught.value.hint == "pip install 'fedcli[dp]'"
    assert budget([sampled(1.0, 5, 10)], 1e-5) == budget([gaussian(5, 10)], 1e-5)


def test_only_samples_import_it() -> None:
    program = (
        "import sys; from support.private import gaussian; from fedcli.privacy import budget;"
        "budget([gaussian(5, 10)], 1e-5);"
        "assert not {'dp_accounting', 'scipy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="tests")


@pytest.mark.parametrize("delta", [0.0, 5e-324, 1.0, -1e-5, math.nan, math.inf])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(UsageError, match="delta: expected more than 0 and less than 1, found"):
        budget([gaussian(5)], delta)


@pytest.mark.parametrize("epsilon", [-1e-9, math.nan])
def test_an_epsilon_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match="epsilon: expected 0 or more, found"):
        delta_at([gaussian(5)], epsilon)
    with pytest.raises(UsageError, match="max_epsilon: expected 0 or more, found"):
        affords([], [gaussian(5)], epsilon, 1e-5)
