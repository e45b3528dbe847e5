"""Label skew: who holds which classes, and in which proportions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cutting import CLASSES, disjoint_and_sorted, label_arrays, made, seeds

from fedcli.errors import UsageError
from fedcli.partitioning.counts import label_counts
from fedcli.partitioning.labels import label_lists
from fedcli.partitioning.pool import Pool
from fedcli.partitioning.schemes import Scheme, cut

alphas = st.floats(0.001, 100)


def counted(labels, parts, classes=4):
    """Examples of each client and class."""
    return np.array([label_counts(labels[part], classes) for part in parts])


# lists


@settings(max_examples=50)
@given(label_arrays, seeds)
def test_labels_gives_each_client_its_classes_and_shares_evenly(labels, seed):
    labels = np.concatenate([labels, [0, 1, 1, 1, 2]])  # something for everyone
    lists = (("ant", "1"), ("bee", "2"), ("bee",))
    parts = made(labels, Scheme("labels", 3, labels=lists), seed).clients
    disjoint_and_sorted(parts)
    counts = label_counts(labels, 4)
    table = counted(labels, parts)
    assert table[:, 0].tolist() == [counts[0], 0, 0]
    assert table[:, 2].tolist() == [0, counts[2], 0]
    assert table[:, 3].tolist() == [0, 0, 0]
    assert table[:, 1].sum() == counts[1]
    assert np.ptp(table[:, 1]) <= 1


def test_a_class_name_wins_over_a_number():
    assert label_lists([["1", "zero"]], ["zero", "two", "1"]) == ((0, 2),)


@pytest.mark.parametrize("chosen", [["wasp"], ["4"], ["-1"], [""], ["ant", "0"]])
def test_a_class_that_is_not_there_or_named_twice_is_refused(chosen):
    with pytest.raises(UsageError, match="--labels"):
        label_lists([chosen], CLASSES)


def test_a_client_whose_classes_have_no_example_is_an_error_that_names_it():
    with pytest.raises(UsageError, match="client 1"):
        made(np.zeros(9, np.int64), Scheme("labels", 2, labels=(("ant",), ("bee",))))


# pathological


def test_deterministic_classes_are_those_that_follow_the_clients_number():
    labels = np.repeat([0, 1, 2, 3], [9, 7, 5, 10])
    scheme = Scheme("pathological", 5, classes_per_client=2, assignment="deterministic")
    assert counted(labels, made(labels, scheme).clients).tolist() == [
        [3, 3, 0, 0],
        [0, 2, 3, 0],
        [0, 0, 2, 5],
        [3, 0, 0, 5],
        [3, 2, 0, 0],
    ]


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(1, 4), st.sampled_from(["random", "deterministic"]), seeds)
def test_each_client_has_so_many_classes_and_shares_them_evenly(clients, number, assignment, seed):
    labels = np.repeat([0, 1, 2, 3], [20, 21, 22, 23])
    scheme = Scheme("pathological", clients, classes_per_client=number, assignment=assignment)
    table = counted(labels, made(labels, scheme, seed).clients)
    assert ((table > 0).sum(axis=1) == number).all()
    for column, total in zip(table.T, (20, 21, 22, 23), strict=True):
        shared = column[column > 0]
        assert len(shared) == 0 or (shared.sum() == total and np.ptp(shared) <= 1)


def test_random_classes_are_drawn_from_all():
    labels = np.arange(400) % 4
    seen = [made(labels, Scheme("pathological", 1), seed).clients[0] for seed in range(60)]
    pairs = {tuple(np.unique(labels[part])) for part in seen}
    assert len(pairs) == 6  # of 4 classes, 2 each


def test_too_few_classes_or_examples_for_pathological_are_refused():
    with pytest.raises(UsageError, match=r"--classes-per-client 3: .* 2 classes"):
        made(np.array([0, 0, 2, 2]), Scheme("pathological", 1, classes_per_client=3))
    with pytest.raises(UsageError, match="3 clients would share the 2 examples of class cat"):
        made(np.array([0, 0, 0, 0, 2, 2]), Scheme("pathological", 3, classes_per_client=2))


# shards


def test_shards_are_stretches_of_the_examples_sorted_by_label():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], 30))
    table = counted(labels, made(labels, Scheme("shards", 6, shards_per_client=2)).clients)
    # twelve shards of ten; a class is exactly three of them
    assert (table % 10 == 0).all()
    assert (table.sum(axis=1) == 20).all()
    assert (table.sum(axis=0) == 30).all()


@settings(max_examples=50)
@given(label_arrays, st.integers(1, 5), st.integers(1, 4), seeds)
def test_shards_hold_everything_in_sizes_that_hardly_differ(labels, clients, number, seed):
    scheme = Scheme("shards", clients, shards_per_client=number)
    if clients * number > len(labels):
        with pytest.raises(UsageError, match=r"--shards-per-client|--clients"):
            made(labels, scheme, seed)
        return
    sizes = [len(part) for part in made(labels, scheme, seed).clients]
    assert sum(sizes) == len(labels)
    assert max(sizes) - min(sizes) <= number


# dirichlet


@settings(max_examples=50)
@given(label_arrays, st.integers(1, 6), alphas, st.integers(1, 3), st.booleans(), seeds)
def test_dirichlet_always_ends_with_the_least_size(labels, clients, alpha, least, balance, seed):
    scheme = Scheme("dirichlet", clients, alpha=alpha, min_size=least, balance=balance)
    if clients * least > len(labels):
        with pytest.raises(UsageError, match="too few"):
            made(labels, scheme, seed)
        return
    parts = made(labels, scheme, seed).clients
    disjoint_and_sorted(parts)
    assert sum(map(len, parts)) == len(labels)
    assert min(map(len, parts)) >= least


def test_what_no_draw_meets_is_reached_by_moving_examples():
    labels = np.zeros(20, np.int64)
    scheme = Scheme("dirichlet", 10, alpha=0.01, min_size=2)
    first, again = (made(labels, scheme) for _ in range(2))
    assert [len(part) for part in first.clients] == [2] * 10
    assert 10 <= first.repaired <= 18
    assert all(np.array_equal(a, b) for a, b in zip(first.clients, again.clients, strict=True))
    assert made(np.arange(400) % 4, Scheme("dirichlet", 3)).repaired == 0


def test_shares_of_a_class_have_the_moments_of_the_dirichlet_distribution():
    alpha, clients = 0.7, 5
    labels = np.repeat(np.arange(40), 500)
    names = tuple(map(str, range(40)))
    tables = [
        counted(labels, cut(Pool(labels, names), Scheme("dirichlet", clients, alpha=alpha), seed)
                .clients, 40)
        for seed in range(25)
    ]  # fmt: skip
    shares = np.concatenate([table.T for table in tables]) / 500  # (1000, clients)
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    covariance = -mean * mean / (clients * alpha + 1)
    # 1000 draws: the standard error of a mean is about 0.006, of a variance 4 to 5 %
    assert abs(shares.mean(axis=0) - mean).max() < 5 * np.sqrt(variance / 1000)
    found = np.cov(shares.T)
    assert abs(np.diag(found) / variance - 1).max() < 0.2
    assert abs(found[~np.eye(clients, dtype=bool)].mean() / covariance - 1) < 0.2


def test_a_balanced_client_gets_no_further_class_once_it_has_its_even_share():
    labels = np.repeat(np.arange(10), 500)
    scheme = Scheme("dirichlet", 10, alpha=0.5, balance=True)
    for seed in range(10):
        parts = cut(Pool(labels, tuple("abcdefghij")), scheme, seed).clients
        before = np.cumsum(counted(labels, parts, 10), axis=1)[:, :-1]
        after = counted(labels, parts, 10)[:, 1:]
        # rounding may give the one that follows a full client an example of its piece
        assert after[before > 501].max() <= 1


def test_balance_evens_the_sizes_out():
    labels = np.repeat(np.arange(10), 500)
    names = tuple("abcdefghij")

    def spread(balance: bool) -> float:
        scheme = Scheme("dirichlet", 10, alpha=0.5, balance=balance)
        cuts = [cut(Pool(labels, names), scheme, seed).clients for seed in range(10)]
        return float(np.mean([np.std([len(part) for part in parts]) for parts in cuts]))

    assert spread(True) < 0.8 * spread(False)


def test_the_partition_of_the_published_results_can_be_made_again():
    """Ten clients of CIFAR-10, alpha 0.5, as examples/niid-bench.toml cuts it."""
    labels = np.repeat(np.arange(10), 5000)
    scheme = Scheme("dirichlet", 10, alpha=0.5, min_size=10, balance=True)
    parts = cut(Pool(labels, tuple("abcdefghij")), scheme, 0).clients
    table = counted(labels, parts, 10)
    assert table[0].tolist() == [61, 277, 39, 650, 317, 118, 1244, 639, 145, 16]
    assert table[2].tolist() == [700, 3183, 276, 725, 192, 0, 0, 0, 0, 0]
    assert table.sum(axis=1).tolist() == [
        3506, 3610, 5076, 4993, 7673, 3972, 4301, 7741, 3018, 6110,
    ]  # fmt: skip


def test_an_unbalanced_partition_is_that_of_earlier_versions():
    labels = np.arange(120) % 4
    parts = made(labels, Scheme("dirichlet", 3, alpha=0.5, min_size=5), 7).clients
    assert counted(labels, parts).tolist() == [[1, 1, 3, 7], [14, 17, 9, 22], [15, 12, 18, 1]]


# inner-dirichlet


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 3), min_size=60, max_size=60).map(np.array),
    st.lists(st.integers(1, 10), min_size=1, max_size=6),
    alphas,
    seeds,
)
def test_inner_dirichlet_gives_exactly_the_sizes_and_always_ends(labels, sizes, alpha, seed):
    scheme = Scheme("inner-dirichlet", alpha=alpha, sizes=tuple(sizes))
    parts = made(labels, scheme, seed).clients
    disjoint_and_sorted(parts)
    assert [len(part) for part in parts] == sizes


def test_mixes_of_clients_have_the_moments_of_the_dirichlet_distribution():
    """Where no class runs out, a client's counts are Dirichlet-multinomial."""
    alpha, size = 0.6, 50
    labels = np.repeat(np.arange(4), 5000)
    scheme = Scheme("inner-dirichlet", alpha=alpha, sizes=(size,) * 40)
    shares = np.concatenate(
        [counted(labels, made(labels, scheme, seed).clients) / size for seed in range(25)]
    )  # (1000, classes)
    variance = 0.25 * 0.75 / (4 * alpha + 1) * (1 + 4 * alpha / size)
    assert abs(shares.mean(axis=0) - 0.25).max() < 5 * np.sqrt(variance / 1000)
    assert abs(shares.var(axis=0) / variance - 1).max() < 0.2


def test_a_client_whose_classes_have_run_out_goes_on_with_the_others():
    labels = np.repeat([0, 1], [3, 300])
    parts = made(labels, Scheme("inner-dirichlet", alpha=0.001, sizes=(100, 100, 103))).clients
    assert counted(labels, parts, 2).sum(axis=0).tolist() == [3, 300]
