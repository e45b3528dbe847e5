"""Partitions: disjoint, complete, of the sizes and the classes that were asked for."""

from dataclasses import MISSING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cutting import CLASSES, disjoint_and_sorted, label_arrays, made, seeds

from fedcli.errors import UsageError
from fedcli.partitioning.client_tests import by_group, like_training
from fedcli.partitioning.counts import label_counts, stratified_sample
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.partitioning.pool import Pool
from fedcli.partitioning.schemes import Scheme, scheme_for, scheme_options
from fedcli.partitioning.sizes import client_sizes

SCHEMES = {
    "iid": Scheme("iid", 3),
    "labels": Scheme("labels", 2, labels=(("0", "1"), ("1", "2"))),
    "dirichlet": Scheme("dirichlet", 3),
    "dirichlet, balanced": Scheme("dirichlet", 3, balance=True),
    "pathological": Scheme("pathological", 8, classes_per_client=2),
    "shards": Scheme("shards", 4),
    "feature-noise": Scheme("feature-noise", 3),
    "feature-rotate": Scheme("feature-rotate", 3),
    "quantity": Scheme("quantity", 3),
    "quantity, log-normal": Scheme("quantity", 3, quantity="log-normal"),
    "quantity, sizes": Scheme("quantity", sizes=(10, 20)),
    "inner-dirichlet": Scheme("inner-dirichlet", 3),
    "natural": Scheme("natural", 2),
}


def test_every_scheme_is_tested_here():
    assert {scheme.name for scheme in SCHEMES.values()} == set(PARTITIONERS)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_seed_gives_one_partition_and_another_seed_another(name):
    labels, groups = np.arange(400) % 4, np.arange(400) // 4 % 5
    first, again, other = (made(labels, SCHEMES[name], seed, groups).clients for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    same = all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert same == (name == "natural")


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=25)
@given(labels=label_arrays, seed=seeds)
def test_no_example_goes_to_two_clients_and_none_is_left_empty(name, labels, seed):
    scheme = SCHEMES[name]
    groups = np.arange(len(labels)) % 5
    try:
        parts = made(labels, scheme, seed, groups).clients
    except UsageError:  # too few examples; which are too few is tested scheme by scheme
        return
    disjoint_and_sorted(parts)
    assert min(map(len, parts)) >= 1
    if not (scheme.given.get("labels") or scheme.given.get("sizes") or name == "pathological"):
        assert sum(map(len, parts)) == len(labels)


@settings(max_examples=50)
@given(label_arrays, st.integers(1, 12), seeds)
def test_iid_deals_everything_out_in_sizes_that_differ_by_at_most_one(labels, clients, seed):
    if clients > len(labels):
        with pytest.raises(UsageError, match="too few"):
            made(labels, Scheme("iid", clients), seed)
        return
    parts = made(labels, Scheme("iid", clients), seed).clients
    sizes = [len(part) for part in parts]
    assert sum(sizes) == len(labels)
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=50)
@given(label_arrays, st.data())
def test_a_stratified_sample_holds_each_class_in_proportion(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified_sample(labels, count, np.random.default_rng(0))
    assert len(chosen) == count
    assert len(np.unique(chosen)) == count
    exact = np.bincount(labels, minlength=4) * count / len(labels)
    assert (abs(np.bincount(labels[chosen], minlength=4) - exact) < 1).all()


# natural


def test_natural_makes_one_client_of_each_group():
    groups = np.array([2, 0, 2, 4, 0, 2])
    result = made(np.zeros(6, np.int64), Scheme("natural"), groups=groups)
    assert [part.tolist() for part in result.clients] == [[1, 4], [0, 2, 5], [3]]
    assert result.groups == ((0,), (2,), (4,))


def test_natural_shares_groups_between_fewer_clients_by_their_sizes():
    groups = np.repeat([0, 1, 2, 3, 4], [5, 1, 4, 6, 2])
    result = made(np.zeros(18, np.int64), Scheme("natural", 2), groups=groups)
    # 6; 5; 4 to the 5; 2 to the 6; 1 to the 8
    assert result.groups == ((1, 3, 4), (0, 2))
    assert [len(part) for part in result.clients] == [9, 9]


def test_natural_without_groups_or_with_too_few_is_refused():
    labels = np.zeros(6, np.int64)
    with pytest.raises(UsageError, match="where its examples come from") as caught:
        made(labels, Scheme("natural"))
    assert "--group" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"--clients 3: .* from only 2 groups"):
        made(labels, Scheme("natural", 3), groups=np.array([0, 0, 0, 1, 1, 1]))


# tests at the clients


@settings(max_examples=50)
@given(
    label_arrays,
    st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=4), min_size=1, max_size=6),
    seeds,
)
def test_test_examples_are_shared_as_the_training_examples_of_their_class(labels, counts, seed):
    parts = like_training(labels, counts, np.random.default_rng(seed))
    disjoint_and_sorted(parts)
    trained = np.array(counts)
    for label, total in enumerate(np.bincount(labels, minlength=4)):
        given = [int((labels[part] == label).sum()) for part in parts]
        if not trained[:, label].any():
            assert sum(given) == 0
            continue
        assert sum(given) == total
        exact = total * trained[:, label] / trained[:, label].sum()
        assert (abs(given - exact) < 1).all()


def test_test_examples_of_a_group_go_to_its_client():
    parts = by_group(np.array([1, -1, 0, 2, 1]), ((0, 2), (1,)))
    assert [part.tolist() for part in parts] == [[2, 3], [0, 4]]


# options


def test_every_option_of_a_scheme_has_a_default_and_is_offered():
    for partitioner in PARTITIONERS.values():
        assert MISSING not in partitioner.options.values()
        assert partitioner.options.keys() <= scheme_options().keys() - {"name", "clients"}


VALUES = {
    "labels": (("0",), ("1",), ("2",)),
    "alpha": 0.5,
    "min_size": 1,
    "balance": True,
    "classes_per_client": 1,
    "assignment": "random",
    "shards_per_client": 1,
    "quantity": "log-normal",
    "sizes": (1, 2, 3),
    "sigma": 0.1,
    "angles": (0.0,),
}


@pytest.mark.parametrize("name", PARTITIONERS)
@pytest.mark.parametrize("option", VALUES)
def test_a_scheme_takes_its_own_options_and_refuses_all_others_by_name(name, option):
    needed = {"labels": VALUES["labels"]} if name == "labels" else {}
    if option == "sigma" and "quantity" in PARTITIONERS[name].options:
        needed["quantity"] = "log-normal"
    values = {**needed, option: VALUES[option]}
    if option in PARTITIONERS[name].options:
        assert Scheme(name, **values).options[option] == VALUES[option]
    else:
        with pytest.raises(UsageError, match=f"^--{option.replace('_', '-')}: scheme {name} does"):
            Scheme(name, **values)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"name": "magic"}, "--scheme"),
        ({"clients": 0}, "--clients"),
        ({"name": "dirichlet", "alpha": 0.0}, "--alpha"),
        ({"name": "dirichlet", "alpha": -1.0}, "--alpha"),
        ({"name": "dirichlet", "alpha": float("nan")}, "--alpha"),
        ({"name": "dirichlet", "alpha": 1.1e6}, "--alpha"),
        ({"name": "feature-noise", "sigma": 1e308}, "--sigma"),
        ({"name": "dirichlet", "min_size": 0}, "--min-size"),
        ({"name": "labels"}, "--scheme labels"),
        ({"name": "labels", "labels": (("0",),), "clients": 2}, "--clients"),
        ({"name": "quantity", "sizes": (5, 5), "clients": 3}, "--clients"),
        ({"name": "quantity", "sizes": (5, 0)}, "--sizes"),
        ({"name": "quantity", "sizes": (5, 5), "min_size": 2}, "--min-size"),
        ({"name": "quantity", "sizes": (5, 5), "quantity": "linear"}, "--quantity"),
        ({"name": "quantity", "quantity": "cubic"}, "--quantity"),
        ({"name": "quantity", "quantity": "square", "sigma": 0.1}, "--sigma"),
        ({"name": "inner-dirichlet", "sigma": 0.1}, "--sigma"),
        ({"name": "feature-noise", "sigma": 0.0}, "--sigma"),
        ({"name": "feature-rotate", "angles": (0.0, float("inf"))}, "--angles"),
        ({"name": "pathological", "classes_per_client": 0}, "--classes-per-client"),
        ({"name": "pathological", "assignment": "fair"}, "--assignment"),
        ({"name": "shards", "shards_per_client": 0}, "--shards-per-client"),
    ],
)
def test_a_scheme_that_could_cut_nothing_is_refused(changes, option):
    with pytest.raises(UsageError, match=f"^{option}"):
        Scheme(**changes)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "iid"),
        (["labels"], "labels"),
        (["alpha"], "dirichlet"),
        (["min_size", "balance"], "dirichlet"),
        (["classes_per_client"], "pathological"),
        (["shards_per_client"], "shards"),
        (["sigma"], "feature-noise"),
        (["angles"], "feature-rotate"),
        (["sizes"], "quantity"),
        (["quantity", "sigma"], "quantity"),
        (["quantity", "alpha"], "inner-dirichlet"),
    ],
)
def test_the_scheme_follows_from_its_options(options, expected):
    assert scheme_for(options) == expected


def test_options_of_different_schemes_follow_to_none():
    with pytest.raises(UsageError, match="--alpha and --angles: no scheme"):
        scheme_for(["alpha", "angles"])


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (Scheme(), {"clients": 3}),
        (
            Scheme("labels", None, labels=(("ant",), ("3", "1"))),
            {"labels": [["ant"], ["bee", "dog"]]},
        ),
        (Scheme("dirichlet", 4), {"clients": 4, "alpha": 0.5, "min_size": 1}),
        (
            Scheme("dirichlet", balance=True, alpha=1.0),
            {"clients": 3, "alpha": 1.0, "min_size": 1, "balance": True},
        ),
        (Scheme("quantity", sizes=(1, 2)), {"sizes": (1, 2)}),
        (Scheme("quantity"), {"clients": 3, "quantity": "linear", "min_size": 1}),
        (Scheme("feature-rotate"), {"clients": 3}),
        (Scheme("natural"), {"clients": 2}),
    ],
)
def test_the_record_of_a_scheme_holds_what_decides_the_cut(scheme, expected):
    pool = Pool(np.arange(8) % 4, CLASSES, np.arange(8) % 2, ("here", "there"))
    assert scheme.parameters(pool) == expected


def test_counts_are_of_every_class():
    assert label_counts(np.array([0, 2, 2]), 4) == [1, 0, 2, 0]


def test_a_sample_of_many_small_groups_keeps_classes_and_groups_in_proportion() -> None:
    # 100 groups of ten of class 0 and one of class 1, and 50 groups of forty of class 0
    labels = np.concatenate([np.tile([0] * 10 + [1], 100), np.zeros(2000, np.int64)])
    groups = np.concatenate([np.repeat(np.arange(100), 11), np.repeat(np.arange(100, 150), 40)])
    small, turns = 0, 200
    for seed in range(turns):
        chosen = stratified_sample(labels, 155, np.random.default_rng(seed), groups)
        assert len(np.unique(chosen)) == 155
        assert np.count_nonzero(labels[chosen] == 1) == 5
        share = np.bincount(groups[chosen][labels[chosen] == 0], minlength=150)
        assert set(share[:100]) <= {0, 1}  # half an example each
        assert set(share[100:]) == {2}
        small += share[:100].sum()
    assert small / turns == pytest.approx(50)


def test_sizes_drawn_from_a_wide_distribution_still_give_every_example() -> None:
    rng = np.random.default_rng(0)
    sizes, _ = client_sizes(120, 5, rng, quantity="log-normal", sizes=(), sigma=1000.0, min_size=1)
    assert sizes.sum() == 120
