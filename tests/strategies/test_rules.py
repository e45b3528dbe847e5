"""What each rule decides, against its paper's equations written out with explicit vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decisions import RNG, decide, inputs, result, size

from fedcli.errors import ExitStatus, NotReadyError, UsageError
from fedcli.strategies import REDUCERS
from fedcli.strategies.decision import LinearDecision

seeds = st.integers(0, 2**32)
ON_INNER_PRODUCTS = {
    "krum": {},
    "multi-krum": {},
    "bulyan": {},
    "rfa": {},
    "clipped-mean": {"clip_norm": 1.5},
    "centered-clipping": {"clip_norm": 1.5, "iterations": 3},
    "foolsgold": {},
}


def krum_by_pairs(updates, f):
    """Blanchard et al. 2017: s(i) = Σ |V_i - V_j|² over the n - f - 2 closest of the others."""
    scores = []
    for i, one in enumerate(updates):
        pairs = sorted(((one - x) ** 2).sum() for j, x in enumerate(updates) if j != i)
        scores.append(sum(pairs[: max(1, len(updates) - f - 2)]))
    return scores


@inputs
@pytest.mark.parametrize("f", range(5))
def test_krum_is_an_update_whose_score_is_the_lowest(updates, f):
    decision = decide("krum", updates, byzantine=f)
    (kept,) = decision.kept
    scores = krum_by_pairs(updates, f)
    assert scores[kept] <= min(scores) + 1e-12 * max(scores)
    assert np.array_equal(result(decision, updates), updates[kept])


@inputs
@pytest.mark.parametrize(("f", "keep"), [(0, 11), (2, 5), (4, 7), (4, 1)])
def test_multi_krum_is_the_mean_of_the_updates_with_the_lowest_scores(updates, f, keep):
    decision = decide("multi-krum", updates, byzantine=f, keep=keep)
    scores = np.array(krum_by_pairs(updates, f))
    assert len(decision.kept) == keep
    highest_kept = scores[list(decision.kept)].max()
    assert highest_kept <= np.sort(scores)[keep - 1] + 1e-12 * scores.max()
    expected = np.mean([updates[i] for i in decision.kept], axis=0)
    np.testing.assert_allclose(result(decision, updates), expected, atol=1e-14 * size(updates))


@pytest.mark.parametrize(("count", "f"), [(3, 0), (7, 1), (9, 1), (11, 2), (15, 3), (16, 3)])
def test_bulyan_selects_by_krum_again_and_again_then_averages_around_the_median(count, f):
    """El Mhamdi et al. 2018: θ = n - 2f are selected; of each coordinate β = θ - 2f values."""
    updates = np.random.default_rng(count).standard_normal((count, 5))
    left, selected = list(range(count)), []
    while len(selected) < count - 2 * f:
        scores = krum_by_pairs(updates[left], f)
        selected.append(left.pop(scores.index(min(scores))))
    decision = decide("bulyan", updates, byzantine=f)
    assert decision.kept == tuple(sorted(selected))
    expected = []
    for values in updates[sorted(selected)].T:
        near = sorted(values, key=lambda value: abs(value - np.median(values)))
        expected.append(np.mean(near[: len(selected) - 2 * f]))
    np.testing.assert_allclose(result(decision, updates), expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["krum", "multi-krum", "bulyan"])
def test_of_two_that_are_the_same_the_first_client_is_chosen(rule):
    same = np.ones((11, 3))
    count = {"krum": 1, "multi-krum": 7, "bulyan": 7}[rule]
    assert decide(rule, same).kept == tuple(range(count))


@pytest.mark.parametrize("rule", ["krum", "multi-krum", "bulyan"])
@pytest.mark.parametrize("attack", [1e3, 1e30, -1e30])
@settings(deadline=None, max_examples=10)
@given(seed=seeds)
def test_updates_that_are_far_from_all_others_are_not_chosen(rule, attack, seed):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((11, 4))
    liars = rng.choice(11, 2, replace=False)
    updates[liars] = attack * rng.uniform(1, 10, (2, 4))
    assert not set(decide(rule, updates, byzantine=2).kept) & set(liars.tolist())


@inputs
@pytest.mark.parametrize(("trim", "cut"), [(0, 0), (0.1, 1), (0.2, 2), (0.3, 3), (0.499, 5)])
def test_trimmed_mean_leaves_out_the_share_at_each_end(updates, trim, cut):
    expected = [np.mean(sorted(values)[cut : len(values) - cut]) for values in updates.T]
    found = result(decide("trimmed-mean", updates, trim=trim), updates.copy())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14 * size(updates))


@pytest.mark.parametrize("count", [2, 3, 4, 1000])
def test_trimmed_mean_never_leaves_out_all(count):
    updates = np.arange(float(count))[:, None]
    found = result(decide("trimmed-mean", updates, trim=np.nextafter(0.5, 0)), updates)
    assert found == [np.median(updates)]


@inputs
@pytest.mark.parametrize("rule", ON_INNER_PRODUCTS)
def test_no_input_makes_a_weight_that_is_no_number(rule, updates):
    decision = decide(rule, updates, **ON_INNER_PRODUCTS[rule])
    assert np.isfinite(result(decision, updates.copy())).all()
    if isinstance(decision, LinearDecision):
        shares = decision.shares.weights / decision.shares.divisor
        assert (shares >= 0).all()
        assert shares.sum() <= 1 + 1e-12


@pytest.mark.parametrize("rule", ["mean", "median", "rfa", "foolsgold", "clipped-mean"])
@pytest.mark.parametrize("scale", [0, 1, 1e30, 1e-30])
def test_one_client_gets_its_own_model(rule, scale):
    update = RNG.standard_normal((1, 6)) * scale
    options = {"clip_norm": 1e40} if rule == "clipped-mean" else {}
    found = result(decide(rule, update, weights=[7], **options), update.copy())
    np.testing.assert_allclose(found, update[0], rtol=1e-15)


@pytest.mark.parametrize("rule", ON_INNER_PRODUCTS)
@settings(deadline=None, max_examples=15)
@given(seed=seeds, order=st.permutations(range(15)))
def test_clients_in_another_order_get_the_same(rule, seed, order):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((15, 6))
    first, second = (decide(rule, x, **ON_INNER_PRODUCTS[rule]) for x in (updates, updates[order]))
    assert set(first.kept) == {order[i] for i in second.kept}
    if isinstance(first, LinearDecision):
        weights = first.shares.weights[order]
        np.testing.assert_allclose(second.shares.weights, weights, atol=1e-7)


@pytest.mark.parametrize(
    ("rule", "options", "needed", "inequality"),
    [
        ("krum", {"byzantine": 2}, 7, "n >= 2f + 3"),
        ("krum", {}, 3, "n >= 2f + 3"),
        ("multi-krum", {"byzantine": 3}, 9, "n >= 2f + 3"),
        ("multi-krum", {"byzantine": 1, "keep": 8}, 9, "n >= m + f"),
        ("bulyan", {"byzantine": 2}, 11, "n >= 4f + 3"),
        ("bulyan", {}, 3, "n >= 4f + 3"),
        ("trimmed-mean", {"trim": 0.2}, 5, "n >= 1 / trim"),
        ("trimmed-mean", {"trim": 0.1}, 10, "n >= 1 / trim"),
        ("trimmed-mean", {"trim": 0.3}, 4, "n >= 1 / trim"),
    ],
)
def test_too_few_updates_are_refused_with_the_inequality(rule, options, needed, inequality):
    reducer = REDUCERS[rule]
    options = {**reducer.options, **options}
    reducer.prepare(needed, options)
    for count in range(1, needed):
        with pytest.raises(NotReadyError, match=f"^{rule} .*, found {count}") as refused:
            reducer.prepare(count, options)
        assert refused.value.status == ExitStatus.NOT_READY == 3
        assert refused.value.hint
    assert f"{inequality} = {needed} updates, found {needed - 1}" in refused.value.message


@pytest.mark.parametrize(("rule", "factor"), [("krum", 2), ("multi-krum", 2), ("bulyan", 4)])
def test_as_many_liars_are_expected_as_the_number_of_updates_allows(rule, factor):
    for count in range(3, 40):
        f = REDUCERS[rule].prepare(count, REDUCERS[rule].options)["byzantine"]
        assert factor * f + 3 <= count < factor * (f + 1) + 3


@pytest.mark.parametrize("rule", ["clipped-mean", "centered-clipping"])
def test_clipping_asks_for_the_norm(rule):
    with pytest.raises(UsageError, match="--clip-norm"):
        REDUCERS[rule].prepare(3, REDUCERS[rule].options)
