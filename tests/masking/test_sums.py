"""The masked sum is the plain sum, whoever drops out; each masked vector alone is noise."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.masking import WHERE, Members

from fedcli.errors import FedcliError, NotReadyError, UsageError
from fedcli.masking.cohort import MaskedRound
from fedcli.masking.masks import Mask, Masked, add_masks, mask
from fedcli.masking.quantise import Grid
from fedcli.masking.secrets import Secret
from fedcli.masking.unmasking import masks_to_remove
from fedcli.plan.secagg import least_threshold

SIZE = 1000
FOUR = ["1", "2", "a", "b"]
TEN = [str(number) for number in range(10)]


def vectors(names: list[str], size: int = SIZE, largest: int = 1 << 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(names))
    return {n: rng.integers(-largest, largest, size, np.int32, endpoint=True) for n in names}


def opened(members: Members, survivors: list[str], givers: list[str]) -> np.ndarray:
    """Return the sum that anybody computes from the survivors' files and the answers."""
    answers = [members.answer(name, survivors) for name in givers]
    committed = {i: members.sealed[i].commitments for i in survivors}
    total = np.sum([members.masked[i].words for i in survivors], axis=0, dtype=np.uint32)
    add_masks(total, masks_to_remove(members.cohort, committed, answers))
    return total.view(np.int32)


def plain(values: dict[str, np.ndarray], survivors: list[str]) -> np.ndarray:
    return np.sum([values[name] for name in survivors], axis=0, dtype=np.int64)


@pytest.fixture(scope="module")
def four() -> Members:
    members = Members(FOUR)
    members.deliver(vectors(FOUR))
    return members


def subsets(names: list[str], least: int) -> list[list[str]]:
    sizes = range(least, len(names) + 1)
    return [list(one) for size in sizes for one in itertools.combinations(names, size)]


@pytest.mark.parametrize("survivors", subsets(FOUR, 3), ids="-".join)
@pytest.mark.parametrize("givers", subsets(FOUR, 3), ids="-".join)
def test_the_sum_is_exact_for_all_survivors_and_givers_of_four(four, survivors, givers):
    assert (opened(four, survivors, givers) == plain(vectors(FOUR), survivors)).all()


@pytest.mark.parametrize("survivors", [s for s in subsets(FOUR, 0) if len(s) < 3], ids="-".join)
def test_nobody_answers_for_fewer_than_t(four, survivors):
    with pytest.raises(NotReadyError, match=f"{len(survivors)} masked updates, expected at least"):
        four.answer("a", survivors)


def test_fewer_than_t_answers_open_nothing(four):
    with pytest.raises(NotReadyError, match="2 members have answered, expected 3"):
        opened(four, FOUR, ["1", "b"])


@pytest.mark.parametrize("seed", range(6))
def test_the_sum_is_exact_for_drawn_survivors_and_givers_of_ten(seed):
    rng = np.random.default_rng(seed)
    drawn = [sorted(rng.choice(TEN, rng.integers(7, 11), replace=False).tolist()) for _ in range(2)]
    members, values = Members(TEN), vectors(TEN, 70)
    members.deliver({name: values[name] for name in drawn[0]})
    assert (opened(members, drawn[0], drawn[1]) == plain(values, drawn[0])).all()


def test_the_largest_integers_do_not_overflow():
    grid = Grid(1.0, 29, 4)  # 4 · 2^28 = 2^30
    members = Members(FOUR)
    values = np.array([1e9, -1e9, 1.0, -1.0, 0.0], np.float32)
    members.deliver({name: grid.quantise(values).values for name in FOUR})
    assert opened(members, FOUR, FOUR).tolist() == [2**30, -(2**30), 2**30, -(2**30), 0]


def test_threads_and_chunks_change_nothing():
    values = vectors(FOUR, size=3 * (1 << 16) + 17)["a"]
    members = Members(FOUR)
    found = [mask(members.agreements["a"], values, threads).words for threads in (1, 2, 5)]
    assert all((one == found[0]).all() for one in found)


def test_repeating_gives_the_same_bytes():
    once, again = Members(FOUR), Members(FOUR)
    for members in (once, again):
        members.deliver(vectors(FOUR))
    for name in FOUR:
        assert once.masked[name].words.tobytes() == again.masked[name].words.tobytes()
        assert once.sealed[name] == again.sealed[name]


def residue(one: Masked, other: Masked) -> np.ndarray:
    return one.words - other.words


def uniform(words: np.ndarray) -> bool:
    """Whether bytes pass a chi-square test at a level of 1e-6 for each side (255 degrees)."""
    counts = np.bincount(np.ascontiguousarray(words).view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return 155 < ((counts - expected) ** 2 / expected).sum() < 377


@pytest.fixture(scope="module")
def masked() -> dict[str, Masked]:
    """Vectors of zeros, masked in places that differ in one respect, or with one more bit."""
    zeros = np.zeros(1 << 16, np.int32)
    other = zeros.copy()
    other[-1] = 1
    places = {
        "here": WHERE,
        "round": MaskedRound(WHERE.run, 2, 1),
        "attempt": MaskedRound(WHERE.run, 1, 2),
        "run": MaskedRound("1" * 64, 1, 1),
    }
    own = {name: Members(FOUR, where).agreements["a"] for name, where in places.items()}
    found = {name: mask(agreement, zeros) for name, agreement in own.items()}
    agreements = Members(FOUR).agreements
    return {**found, "member": mask(agreements["1"], zeros), "input": mask(agreements["a"], other)}


def test_a_masked_vector_is_uniform_whatever_is_in_it(masked):
    assert all(uniform(one.words) for one in masked.values())
    assert not uniform(np.zeros(1 << 16, np.uint32))


@pytest.mark.parametrize(
    ("one", "other"),
    list(itertools.combinations(["here", "round", "attempt", "run", "member", "input"], 2)),
)
def test_two_masks_are_independent(masked, one, other):
    """Their difference is uniform, and their bits agree in half of all places."""
    assert uniform(residue(masked[one], masked[other]))
    words = masked[one].words ^ masked[other].words
    ones = np.unpackbits(words.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 6 * 0.5 / np.sqrt(32 * words.size)


def test_without_the_pairs_seeds_the_sum_of_all_but_one_stays_noise(four):
    """Own seeds of the survivors alone do not open a sum in which a member is missing."""
    survivors = FOUR[:3]
    total = np.sum([four.masked[i].words for i in survivors], axis=0, dtype=np.uint32)
    add_masks(total, [Mask(four.masked[i].seeds.own, negative=True) for i in survivors])
    assert (total.view(np.int32) != plain(vectors(FOUR), survivors)).mean() > 0.99


# what a grid does


def test_the_mean_is_that_of_plain_quantised_updates_to_the_byte():
    grid, rng = Grid(0.5, 20, 4), np.random.default_rng(0)
    steps = {name: rng.normal(0, 0.1, SIZE).astype(np.float32) for name in FOUR}
    integers = {name: np.rint(one.astype(float) / (0.5 / 2**19)) for name, one in steps.items()}
    members = Members(FOUR)
    members.deliver({name: grid.quantise(one).values for name, one in steps.items()})
    expected = np.sum(list(integers.values()), axis=0) * (0.5 / 2**19) / 4
    found = grid.mean(opened(members, FOUR, FOUR).view(np.uint32), 4)
    assert found.tobytes() == expected.tobytes()
    exact = np.mean(list(steps.values()), axis=0, dtype=np.float64)
    assert np.abs(found - exact).max() <= grid.step / 2


@given(
    st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=50),
    st.integers(2, 24),
    st.floats(0.01, 2),
)
@settings(max_examples=60, deadline=None)
def test_values_are_rounded_to_the_nearest_point_and_the_clipped_are_counted(values, bits, clip):
    grid = Grid(clip, bits, 4)
    found = grid.quantise(np.array(values, np.float32))
    inside = np.abs(np.array(values)) <= clip
    assert np.abs(found.values).max() <= grid.largest
    error = np.abs(found.values * grid.step - np.array(values))
    assert (error[inside] <= grid.step * (0.5 + 1e-9)).all()
    beyond = np.abs(np.rint(np.array(values) / grid.step)) > grid.largest
    assert found.clipped == beyond.sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_its_owner(bad):
    values = np.zeros(300_000, np.float32)
    values[-1] = bad
    with pytest.raises(FedcliError, match="is NaN or infinite"):
        Grid(1, 16, 3).quantise(values)


@pytest.mark.parametrize(("clients", "most"), [(3, 30), (4, 29), (7, 29), (8, 28), (1000, 22)])
def test_no_sum_can_overflow(clients, most):
    """The bound is n·2^(b−1) < 2^31."""
    assert clients * Grid(1, most, clients).largest < 2**31 <= clients * 2**most
    with pytest.raises(
        UsageError, match=rf"--secagg-bits: expected 2 … {most} for {clients} clients"
    ):
        Grid(1, most + 1, clients)


@pytest.mark.parametrize("clip", [0, -1, np.nan, np.inf])
def test_a_clip_is_a_number_above_0(clip):
    with pytest.raises(UsageError, match="--secagg-clip: expected a number above 0"):
        Grid(clip, 16, 3)


# who may mask together


@pytest.mark.parametrize(("members", "least"), [(3, 3), (4, 3), (5, 4), (6, 5), (9, 7), (10, 7)])
def test_two_lists_never_get_enough_answers(members, least):
    """Two sets of t members share more than a third of all, and an honest one answers once."""
    assert least_threshold(members) == least
    assert 3 * (2 * least - members) > members
    assert 3 * (2 * (least - 1) - members) <= members


@pytest.mark.parametrize(("names", "threshold"), [(FOUR, 2), (FOUR, 5), (FOUR, -1), (TEN, 6)])
def test_a_threshold_out_of_range_is_refused(names, threshold):
    with pytest.raises(UsageError, match="--threshold: expected"):
        Members(names, threshold=threshold)


def test_two_members_have_nothing_to_hide_from_each_other():
    with pytest.raises(UsageError, match="at least 3 clients in a round, found 2"):
        Members(["a", "b"])


def test_a_cohort_agrees_on_one_secret_for_each_pair():
    members = Members(FOUR)
    for one, other in itertools.combinations(FOUR, 2):
        mine = members.agreements[one].pair_seed(other)
        assert mine == members.agreements[other].pair_seed(one)
        assert mine != members.agreements[one].with_others[other]
    seeds = {members.agreements[a].pair_seed(b).value for a, b in itertools.combinations(FOUR, 2)}
    assert len(seeds) == 6


def test_masks_do_not_go_round_the_key_stream():
    endless = np.lib.stride_tricks.as_strided(np.zeros(1, "<u4"), ((1 << 36) + 1,), (0,))
    with pytest.raises(ValueError, match="expected at most"):
        add_masks(endless, [Mask(Secret(bytes(32)))])
