"""The coordinate-wise rank rules against their definitions, and the networks they run on."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fedcli.formats.dtypes import Array
from fedcli.strategies.networks import select_ranks, selection_network
from fedcli.strategies.ranks import block_bytes, mean_around_median, median, middle, trimmed_mean

Rule = Callable[[Array], NDArray[np.float64]]

CLIENTS = st.integers(1, 17)
FLOATS: dict[type[np.floating[Any]], st.SearchStrategy[float]] = {
    np.float32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    # The sum of 17 of them is still finite.
    np.float64: st.floats(-1e306, 1e306),
}


@st.composite
def stacks(draw: st.DrawFn) -> Array:
    """A few values of 1 to 17 clients: of any magnitude, often tied, zeros of both signs."""
    dtype = draw(st.sampled_from(sorted(FLOATS, key=str)))
    some = draw(st.lists(FLOATS[dtype], min_size=1, max_size=6))
    elements = st.one_of(st.sampled_from([*some, 0.0, -0.0]), FLOATS[dtype])
    return draw(arrays(dtype, (draw(CLIENTS), draw(st.integers(1, 4))), elements=elements))


def known_stacks(clients: int) -> list[Array]:
    """Random, tied, constant, huge, tiny and zero values of many clients."""
    random = np.random.default_rng(clients)
    normal = random.standard_normal((clients, 300)).astype(np.float32)
    return [
        random.standard_normal((clients, 1100)).astype(np.float32),
        random.standard_normal((clients, 300)),
        random.integers(-2, 3, (clients, 300)).astype(np.float32),
        np.full((clients, 2), 0.1, np.float32),
        (normal * np.float32(5e37)),
        (normal * np.float32(1e-38)),
        np.where(normal > 0, np.float32(0.0), np.float32(-0.0)),
        np.sign(normal) * np.float32(1e-45),
    ]


MANY = [18, 31, 32, 33, 34, 64, 100, 257]


def sorted_columns(stack: Array) -> list[list[float]]:
    return [sorted(float(value) for value in column) for column in stack.T]


def check_median(stack: Array) -> None:
    expected = [
        (column[(len(column) - 1) // 2] + column[len(column) // 2]) / 2
        for column in sorted_columns(stack)
    ]
    result = median(stack.copy())
    assert result.dtype == np.float64
    assert result.tolist() == expected


def check_trimmed_mean(stack: Array, cut: int) -> None:
    result = trimmed_mean(stack.copy(), cut)
    assert result.dtype == np.float64
    for value, column in zip(result, sorted_columns(stack), strict=True):
        kept = column[cut : len(column) - cut]
        bound = 2**-50 * math.fsum(map(abs, kept)) + 5e-324
        assert abs(value - math.fsum(kept) / len(kept)) <= bound


def nearest(column: list[float], count: int) -> list[Fraction]:
    """The values nearest to the median by exact arithmetic, the smaller first among equals."""
    exact = sorted(map(Fraction, column))
    center = (exact[(len(exact) - 1) // 2] + exact[len(exact) // 2]) / 2
    return sorted(exact, key=lambda value: (abs(value - center), value))[:count]


def check_mean_around_median(stack: Array, count: int) -> None:
    result = mean_around_median(stack.copy(), count)
    assert result.dtype == np.float64
    # Exact arithmetic is slow; the last columns will do.
    for value, column in zip(result[-5:], sorted_columns(stack[:, -5:]), strict=True):
        kept = nearest(column, count)
        bound = Fraction(2) ** -50 * sum(map(abs, kept)) + Fraction(5e-324)
        assert abs(Fraction(value) - sum(kept) / count) <= bound


@given(stacks())
def test_median_is_the_middle_of_the_sorted_values(stack: Array) -> None:
    check_median(stack)


@given(stacks(), st.data())
def test_trimmed_mean_is_the_mean_of_what_is_left(stack: Array, data: st.DataObject) -> None:
    check_trimmed_mean(stack, data.draw(st.integers(0, (len(stack) - 1) // 2)))


@given(
    # A sum of two such values is exact in float64, so that ties are ties.
    CLIENTS.flatmap(
        lambda n: arrays(np.float32, (n, 3), elements=st.floats(-60000, 60000, width=16))
    ),
    st.sampled_from([1, 2.0**-130, 2.0**100]),
    st.data(),
)
def test_mean_around_the_median_takes_the_nearest(
    stack: Array, scale: float, data: st.DataObject
) -> None:
    stack *= np.float32(scale)
    check_mean_around_median(stack, data.draw(st.integers(1, len(stack))))


@pytest.mark.parametrize("clients", MANY)
def test_many_clients(clients: int) -> None:
    for stack in known_stacks(clients):
        check_median(stack)
        for cut in {0, clients // 5, (clients - 1) // 2}:
            check_trimmed_mean(stack, cut)
        for count in {1, clients // 3, clients - 2, clients}:
            check_mean_around_median(stack, count)


def test_of_two_values_at_the_same_distance_the_lower_is_taken() -> None:
    stack = np.array([[5], [1], [3]], np.float32)
    assert mean_around_median(stack, 2).tolist() == [2]


def test_a_minority_cannot_move_the_result_out_of_the_range_of_the_others() -> None:
    honest = np.random.default_rng(0).standard_normal((60, 50)).astype(np.float32)
    for attack in (np.float32(-3e38), np.float32(3e38)):
        stack = np.concatenate([np.full((19, 50), attack), honest])
        for rule in rules(len(stack)):
            result = rule(stack.copy())
            assert (honest.min(axis=0) <= result).all()
            assert (result <= honest.max(axis=0)).all()


def rules(clients: int) -> list[Rule]:
    return [
        median,
        lambda stack: trimmed_mean(stack, (clients - 1) // 4),
        lambda stack: mean_around_median(stack, (clients + 1) // 2),
    ]


@given(stacks(), st.randoms(use_true_random=False))
def test_the_order_of_the_clients_changes_no_byte(stack: Array, random: Any) -> None:
    order = random.sample(range(len(stack)), len(stack))
    for rule in rules(len(stack)):
        assert rule(stack.copy()).tobytes() == rule(stack[order]).tobytes()


@pytest.mark.parametrize("clients", [1, 2, 5, 6, 40])
def test_float64_values_that_have_no_sum_have_a_median(clients: int) -> None:
    large = 1.5e308
    assert (median(np.full((clients, 3), large)) == large).all()
    smallest = np.nextafter(0, 1)
    assert (median(np.full((clients, 3), smallest)) == smallest).all()


@pytest.mark.parametrize("clients", [1, 2, 3, 10, *MANY])
def test_neither_order_nor_block_size_nor_threads_change_a_byte(clients: int) -> None:
    order = np.random.default_rng(1).permutation(clients)
    for stack, rule in product(known_stacks(clients), rules(clients)):
        whole = rule(stack.copy())
        assert rule(stack[order]).tobytes() == whole.tobytes()
        columns = [rule(stack[:, at : at + 1].copy()) for at in range(5)]
        assert np.concatenate(columns).tobytes() == whole[:5].tobytes()
        blocks = [stack[:, at : at + 77].copy() for at in range(0, stack.shape[1], 77)]
        with ThreadPoolExecutor(4) as pool:
            assert np.concatenate(list(pool.map(rule, blocks))).tobytes() == whole.tobytes()


def test_a_zero_has_no_sign() -> None:
    for clients in (1, 2, 5, 40):
        for rule in rules(clients):
            assert not np.signbit(rule(np.full((clients, 3), -0.0, np.float32))).any()


@pytest.mark.parametrize("clients", [1, 2, 3, 10, 32, 33, 100])
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<i2", "<i4", "<i8", "<u8"])
def test_middle_is_the_lower_median_and_exact(clients: int, dtype: str) -> None:
    random = np.random.default_rng(clients)
    if dtype == "?":
        stack = random.random((clients, 40)) < 0.5
    else:
        limits = np.iinfo(dtype)
        stack = random.integers(limits.min, limits.max, (clients, 40), dtype, endpoint=True)
    expected = [sorted(column)[(clients - 1) // 2] for column in stack.T.tolist()]
    result = middle(stack)
    assert result.dtype == np.dtype(dtype)
    assert result.tolist() == expected


@pytest.mark.parametrize("wires", range(1, 11))
def test_networks_select_every_range_of_ranks(wires: int) -> None:
    # By the 0-1 principle a network that is right for all zeros and ones is right for all values.
    inputs = np.array(list(product([False, True], repeat=wires))).T.copy()
    expected = np.sort(inputs, axis=0)
    for first, last in combinations(range(wires + 1), 2):
        selected = select_ranks(inputs.copy(), first, last)
        assert np.array_equal(selected, expected[first:last])


@pytest.mark.parametrize(("wires", "comparators"), [(1, 0), (2, 1), (4, 5), (8, 19), (16, 63)])
def test_networks_that_sort_have_the_comparators_of_batcher(wires: int, comparators: int) -> None:
    network = selection_network(wires, 0, wires)
    assert len(network) == comparators
    assert all(both.keeps_smaller and both.keeps_larger for both in network)


def test_networks_leave_out_what_no_wanted_rank_depends_on() -> None:
    # The smallest of n values takes n - 1 minima, and no maximum.
    network = selection_network(13, 0, 1)
    assert len(network) == 12
    assert all(step.keeps_smaller and not step.keeps_larger for step in network)


@pytest.mark.parametrize("cut", [-1, 2, 3])
def test_more_values_than_there_are_cannot_be_cut(cut: int) -> None:
    with pytest.raises(ValueError, match=f"cannot cut {cut} clients twice from 4"):
        trimmed_mean(np.zeros((4, 1), np.float32), cut)


@pytest.mark.parametrize("count", [0, 5])
def test_more_values_than_there_are_cannot_be_taken(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot take {count} of 4 clients"):
        mean_around_median(np.zeros((4, 1), np.float32), count)


@given(st.integers(1, 100_000))
def test_blocks_are_whole_pages_of_bounded_size(clients: int) -> None:
    size = block_bytes(clients)
    assert size >= 4096
    assert size % 4096 == 0
    assert size == 4096 or clients * size <= 8 << 20
