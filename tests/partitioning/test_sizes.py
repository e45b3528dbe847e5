"""Quantity skew: how many examples each client gets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cutting import made, seeds

from fedcli.errors import UsageError
from fedcli.partitioning.schemes import Scheme
from fedcli.partitioning.sizes import QUANTITIES


def sizes_of(total: int, scheme: Scheme, seed: int = 0) -> list[int]:
    return [len(part) for part in made(np.arange(total) % 4, scheme, seed).clients]


@pytest.mark.parametrize(
    ("quantity", "total", "clients", "expected"),
    [
        ("even", 11, 4, [3, 3, 3, 2]),
        ("linear", 12, 3, [2, 4, 6]),
        ("linear", 13, 3, [2, 4, 7]),
        ("square", 30, 4, [1, 4, 9, 16]),
        ("square", 33, 4, [1, 4, 9, 19]),
        # e, e², e³, e⁴ of 1000, of which the last gets what is left by rounding down
        ("exponential", 1000, 4, [32, 87, 236, 645]),
    ],
)
def test_sizes_go_by_the_number_of_the_client(quantity, total, clients, expected):
    assert sizes_of(total, Scheme("quantity", clients, quantity=quantity)) == expected


def test_exponential_sizes_of_many_clients_leave_none_empty():
    scheme = Scheme("quantity", 2000, quantity="exponential", min_size=2)
    result = made(np.arange(6000) % 4, scheme)
    sizes = [len(part) for part in result.clients]
    assert sum(sizes) == 6000
    assert min(sizes) == 2
    assert sizes == sorted(sizes)
    assert result.repaired > 3000


def test_log_normal_sizes_have_the_deviation_that_was_asked_for():
    scheme = Scheme("quantity", 400, quantity="log-normal", sigma=0.5)
    logs = np.log(sizes_of(400_000, scheme))
    assert abs(logs.std() / 0.5 - 1) < 0.15  # its standard error is 3.5 %
    assert abs(logs.mean() - (np.log(1000) - 0.125)) < 0.15


@settings(max_examples=50)
@given(
    st.integers(1, 300),
    st.integers(1, 20),
    st.integers(1, 5),
    st.sampled_from(sorted(QUANTITIES)),
    seeds,
)
def test_sizes_add_up_and_none_is_below_the_least(total, clients, least, quantity, seed):
    scheme = Scheme("quantity", clients, quantity=quantity, min_size=least)
    if clients * least > total:
        with pytest.raises(UsageError, match="too few"):
            sizes_of(total, scheme, seed)
        return
    sizes = sizes_of(total, scheme, seed)
    assert sum(sizes) == total
    assert min(sizes) >= least


def test_sizes_are_taken_as_they_are():
    assert sizes_of(100, Scheme("quantity", sizes=(10, 20, 30))) == [10, 20, 30]
    assert sizes_of(60, Scheme("quantity", sizes=(10, 20, 30))) == [10, 20, 30]
    with pytest.raises(UsageError, match="--sizes: they add up to 60, more than the 59"):
        sizes_of(59, Scheme("quantity", sizes=(10, 20, 30)))


def test_labels_are_alike_whatever_the_sizes():
    labels = np.arange(40_000) % 4
    for part in made(labels, Scheme("quantity", 3, quantity="square")).clients:
        shares = np.bincount(labels[part]) / len(part)
        assert abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / len(part))


def test_inner_dirichlet_takes_its_sizes_the_same_way():
    sizes = sizes_of(30, Scheme("inner-dirichlet", 4, quantity="square"))
    assert sizes == [1, 4, 9, 16]
    assert sizes_of(11, Scheme("inner-dirichlet", 4)) == [3, 3, 3, 2]
