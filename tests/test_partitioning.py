"""Partitions: disjoint, complete, of the sizes and the classes that were asked for."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fedcli.errors import UsageError
from fedcli.partitioning import Scheme, cut, label_counts, label_lists, stratified_sample

CLASSES = ("ant", "bee", "cat", "dog")

label_arrays = st.lists(st.integers(0, 3), min_size=1, max_size=80).map(
    lambda values: np.array(values, np.int64)
)
seeds = st.integers(0, 2**40)


def disjoint_and_sorted(parts: list[np.ndarray]) -> None:
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    for part in parts:
        assert (np.diff(part) > 0).all()
        assert part.dtype == np.int64


@settings(deadline=None, max_examples=50)
@given(label_arrays, st.integers(1, 12), seeds)
def test_iid_deals_everything_out_in_sizes_that_differ_by_at_most_one(labels, clients, seed):
    if clients > len(labels):
        with pytest.raises(UsageError, match="too few"):
            cut(labels, CLASSES, Scheme("iid", clients), seed)
        return
    parts = cut(labels, CLASSES, Scheme("iid", clients), seed)
    disjoint_and_sorted(parts)
    sizes = [len(part) for part in parts]
    assert sum(sizes) == len(labels)
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.filter_too_much])
@given(label_arrays, st.integers(1, 6), st.floats(0.05, 100), st.integers(1, 3), seeds)
def test_dirichlet_covers_everything_and_keeps_the_least_size(labels, clients, alpha, least, seed):
    scheme = Scheme("dirichlet", clients, alpha=alpha, min_size=least)
    try:
        parts = cut(labels, CLASSES, scheme, seed)
    except UsageError:
        # one class for all of 80 examples and a tiny alpha: there may be no such draw
        assume(False)
    disjoint_and_sorted(parts)
    assert sum(map(len, parts)) == len(labels)
    assert min(map(len, parts)) >= least


@settings(deadline=None, max_examples=50)
@given(label_arrays, seeds)
def test_labels_gives_each_client_its_classes_and_shares_evenly(labels, seed):
    labels = np.concatenate([labels, [0, 1, 1, 1, 2]])  # something for everyone
    lists = (("ant", "1"), ("bee", "2"), ("bee",))
    parts = cut(labels, CLASSES, Scheme("labels", 3, lists), seed)
    disjoint_and_sorted(parts)
    counts = label_counts(labels, 4)
    table = np.array([label_counts(labels[part], 4) for part in parts])
    assert table[:, 0].tolist() == [counts[0], 0, 0]
    assert table[:, 2].tolist() == [0, counts[2], 0]
    assert table[:, 3].tolist() == [0, 0, 0]
    assert table[:, 1].sum() == counts[1]
    assert np.ptp(table[:, 1]) <= 1


@pytest.mark.parametrize(
    "scheme",
    [Scheme("iid", 3), Scheme("dirichlet", 3), Scheme("labels", 2, (("0", "1"), ("1", "2")))],
)
def test_a_seed_gives_one_partition_and_another_seed_another(scheme):
    labels = np.arange(400) % 4
    first, again, other = (cut(labels, CLASSES, scheme, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def largest_share(labels, parts):
    table = np.array([label_counts(labels[part], 4) for part in parts])
    return float((table.max(axis=0) / table.sum(axis=0)).mean())


def test_a_small_alpha_skews_and_a_large_one_does_not():
    labels = np.arange(4000) % 4
    skewed = cut(labels, CLASSES, Scheme("dirichlet", 4, alpha=0.05), 0)
    even = cut(labels, CLASSES, Scheme("dirichlet", 4, alpha=1000.0), 0)
    assert largest_share(labels, skewed) > 0.7
    assert largest_share(labels, even) < 0.3


@settings(deadline=None, max_examples=50)
@given(label_arrays, st.data())
def test_a_stratified_sample_holds_each_class_in_proportion(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified_sample(labels, count, np.random.default_rng(0))
    assert len(chosen) == count
    assert len(np.unique(chosen)) == count
    exact = np.bincount(labels, minlength=4) * count / len(labels)
    assert (abs(np.bincount(labels[chosen], minlength=4) - exact) < 1).all()


def test_a_class_name_wins_over_a_number():
    assert label_lists([["1", "zero"]], ["zero", "two", "1"]) == ((0, 2),)


@pytest.mark.parametrize("chosen", [["wasp"], ["4"], ["-1"], [""], ["ant", "0"]])
def test_a_class_that_is_not_there_or_named_twice_is_refused(chosen):
    with pytest.raises(UsageError, match="--labels"):
        label_lists([chosen], CLASSES)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"name": "magic"}, "--scheme"),
        ({"clients": 0}, "--clients"),
        ({"alpha": 0.0}, "--alpha"),
        ({"alpha": -1.0}, "--alpha"),
        ({"alpha": float("nan")}, "--alpha"),
        ({"min_size": 0}, "--min-size"),
        ({"name": "labels", "labels": (("0",),), "clients": 2}, "--clients"),
    ],
)
def test_a_scheme_that_could_cut_nothing_is_refused(changes, option):
    with pytest.raises(UsageError, match=option):
        Scheme(**{"name": "iid", "clients": 3, **changes})


def test_a_client_whose_classes_have_no_example_is_an_error_that_names_it():
    with pytest.raises(UsageError, match="client 1"):
        cut(np.zeros(9, np.int64), CLASSES, Scheme("labels", 2, (("ant",), ("bee",))), 0)


def test_a_least_size_that_no_draw_meets_is_an_error_that_says_what_to_change():
    with pytest.raises(UsageError, match="--alpha") as caught:
        cut(np.zeros(20, np.int64), CLASSES, Scheme("dirichlet", 10, alpha=0.01, min_size=2), 0)
    assert "--min-size" in str(caught.value.hint)
