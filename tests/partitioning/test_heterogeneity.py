"""How much clients differ: hand-computed cases, bounds, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcli.formats.partition import Heterogeneity
from fedcli.partitioning.heterogeneity import heterogeneity

tables = st.lists(
    st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any), min_size=1, max_size=6
)


def measured(table: list[list[int]]) -> Heterogeneity:
    return heterogeneity({str(client): counts for client, counts in enumerate(table)})


def test_clients_that_are_alike_differ_by_nothing():
    assert measured([[10, 20], [10, 20], [10, 20]]) == Heterogeneity(0.0, 0.0, 0.0)


def test_one_client_differs_from_nobody():
    assert measured([[3, 4, 0]]) == Heterogeneity(0.0, 0.0, 0.0)


def test_clients_of_one_class_each_are_a_distance_of_1_apart():
    found = measured([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]])
    assert found.jensen_shannon_distance == pytest.approx(1)
    # from a quarter of each class: 3/4 of the examples have to move
    assert found.earth_movers_distance == pytest.approx(0.75)
    assert found.gini_of_sizes == 0


def test_a_case_by_hand():
    """p = (1, 0) of 10 and q = (1/2, 1/2) of 30.

    The middle is (3/4, 1/4), of entropy 2 - 3/4 log2 3; the divergence is that less half a bit.
    The pool is (25/40, 15/40): 3/8 from p, 1/8 from q. The mean absolute difference of two sizes
    is 10, over twice the mean size of 20.
    """
    found = measured([[10, 0], [15, 15]])
    assert found.jensen_shannon_distance == pytest.approx(np.sqrt(1.5 - 0.75 * np.log2(3)))
    assert found.earth_movers_distance == pytest.approx((3 / 8 + 1 / 8) / 2)
    assert found.gini_of_sizes == pytest.approx(0.25)


def test_the_gini_coefficient_of_one_rich_client_is_nearly_1():
    found = measured([*([[1]] * 99), [10**9]])
    assert found.gini_of_sizes == pytest.approx(0.99, abs=1e-6)


@settings(max_examples=100)
@given(tables, st.randoms(use_true_random=False))
def test_figures_lie_in_0_to_1_and_the_order_of_clients_does_not_matter(table, random):
    found = measured(table)
    assert 0 <= found.jensen_shannon_distance <= 1
    assert 0 <= found.earth_movers_distance < 1
    assert 0 <= found.gini_of_sizes + 1e-12 < 1
    shuffled = list(enumerate(table))
    random.shuffle(shuffled)
    assert heterogeneity({str(client): counts for client, counts in shuffled}) == found


@settings(max_examples=100)
@given(tables)
def test_the_gini_coefficient_is_half_the_relative_mean_difference(table):
    sizes = np.array([sum(counts) for counts in table])
    expected = abs(sizes[:, None] - sizes).mean() / (2 * sizes.mean())
    assert measured(table).gini_of_sizes == pytest.approx(expected, abs=1e-12)


def test_of_very_many_clients_as_many_kinds_are_compared():
    """Half of the clients hold one class each: half of all pairs are 1 apart."""
    table = [[1, 0]] * 2000 + [[0, 1]] * 2000
    found = measured(table)
    assert found.jensen_shannon_distance == pytest.approx(0.5, abs=0.002)
    assert found.earth_movers_distance == pytest.approx(0.5)
