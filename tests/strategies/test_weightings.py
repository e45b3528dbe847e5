"""How much each client counts, against the papers' equations with explicit vectors."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import training_record

from fedcli.errors import ExitStatus, UpdateError
from fedcli.strategies import WEIGHTINGS
from fedcli.strategies.decision import Contributor

losses = st.lists(st.floats(0, 1e3), min_size=1, max_size=8)
trained_steps = st.integers(1, 500)


def client(name, num_examples=1, staleness=0, clients=1, **training):
    path = Path(f"updates/{name}.safetensors")
    record = training_record(training)
    return Contributor(str(name), path, num_examples, clients, staleness, record)


def shares(weighting, clients, squares=None, **options):
    found = WEIGHTINGS[weighting].weigh(clients, squares, options)
    return found.weights / found.divisor


def test_examples_and_uniform_are_shares_of_one():
    clients = [client(0, 10), client(1, 30), client(2, 60)]
    assert shares("examples", clients).tolist() == [0.1, 0.3, 0.6]
    np.testing.assert_allclose(shares("uniform", clients), [1 / 3] * 3, rtol=1e-15)


def test_a_partial_mean_counts_as_all_of_its_clients():
    clients = [client(0, 10), client("edge", 30, clients=3)]
    assert shares("examples", clients).tolist() == [0.25, 0.75]
    assert shares("uniform", clients).tolist() == [0.25, 0.75]


def test_the_weights_of_examples_and_uniform_are_whole_numbers():
    clients = [client(i, 7 + i) for i in range(50)]
    for name in ("examples", "uniform"):
        weights = WEIGHTINGS[name].weigh(clients, None, {}).weights
        assert np.array_equal(weights, np.rint(weights))


def q_fedavg_step(updates, losses, q, lr):
    """Li et al. 2020, algorithm 2, with w^t = 0: Δw_k = L (w^t - w_k), w^{t+1} = -Σ Δ_k / Σ h_k."""
    lipschitz = 1 / lr
    deltas, steps = [], []
    for update, loss in zip(updates, losses, strict=True):
        dw = lipschitz * (0 - update)
        deltas.append(loss**q * dw)
        steps.append(q * loss ** (q - 1) * (dw**2).sum() + lipschitz * loss**q)
    return 0 - sum(deltas) / sum(steps)


def q_fedavg(updates, losses, q, lr=0.1):
    clients = [client(i, lr=lr, initial_loss=loss) for i, loss in enumerate(losses)]
    return shares("qfedavg", clients, (updates**2).sum(axis=1), q=q)


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("lr", [0.001, 1.0])
@pytest.mark.parametrize("scale", [0, 1e-30, 1, 1e15])
@pytest.mark.parametrize("count", [1, 6])
def test_q_fedavg_takes_the_step_of_its_paper(q, lr, scale, count):
    rng = np.random.default_rng(count)
    updates, loss = scale * rng.standard_normal((count, 7)), rng.uniform(0.5, 3, count).tolist()
    found = q_fedavg(updates, loss, q, lr) @ updates
    np.testing.assert_allclose(found, q_fedavg_step(updates, loss, q, lr), rtol=1e-12, atol=0)


@given(losses)
def test_q_fedavg_with_q_0_is_the_uniform_mean_whatever_the_losses(losses):
    updates = np.ones((len(losses), 3))
    np.testing.assert_allclose(q_fedavg(updates, losses, 0.0), 1 / len(losses), rtol=1e-14)


@given(losses, st.floats(0.01, 1000))
def test_q_fedavg_counts_a_higher_loss_more_and_steps_no_further_than_the_mean(losses, q):
    found = q_fedavg(np.ones((len(losses), 3)), losses, q)
    assert np.isfinite(found).all()
    assert 0 <= found.sum() <= 1 + 1e-12
    by_loss = found[np.argsort(losses)]
    assert (np.diff(by_loss) >= 0).all()
    assert q_fedavg(np.ones((2, 3)), [1.0, 1.5], q)[1] > 1e-6


def local_training(gradient, steps, momentum, lr=0.1):
    """SGD with momentum on a linear loss, whose gradient is the same everywhere."""
    x, velocity = np.zeros_like(gradient), np.zeros_like(gradient)
    for _ in range(steps):
        velocity = momentum * velocity + gradient
        x = x - lr * velocity
    return x


@pytest.mark.parametrize("momenta", [(0.0, 0.0, 0.0), (0.9, 0.9, 0.9), (0.0, 0.5, 0.99)])
def test_fednova_goes_in_the_direction_of_the_mean_gradient_whatever_the_steps(momenta):
    """Wang et al. 2020: the mean of the gradients, not of those who took more steps."""
    counts, taken = np.array([100, 300, 50]), (5, 2, 9)
    gradients = np.random.default_rng(0).standard_normal((3, 4))
    updates = np.array(list(map(local_training, gradients, taken, momenta)))
    clients = [
        client(i, int(counts[i]), steps=taken[i], momentum=momenta[i], lr=0.1) for i in range(3)
    ]
    mean_gradient = counts @ gradients / counts.sum()

    def cosine(step):
        return -step @ mean_gradient / np.linalg.norm(step) / np.linalg.norm(mean_gradient)

    step = shares("fednova", clients) @ updates
    assert cosine(step) == pytest.approx(1, abs=1e-12)
    assert cosine(shares("examples", clients) @ updates) < 0.95
    # τ_eff: as far as gradients that all are the same would have moved the mean of FedAvg.
    lengths = -local_training_lengths(taken, momenta)
    np.testing.assert_allclose(step, -0.1 * (counts @ lengths / 450) * mean_gradient, rtol=1e-12)


def local_training_lengths(taken, momenta):
    return np.array(
        [local_training(np.ones(1), *args, lr=1.0)[0] for args in zip(taken, momenta, strict=True)]
    )


@settings(deadline=None, max_examples=50)
@given(trained_steps, trained_steps, st.floats(0, 0.999))
def test_fednova_divides_by_the_sum_of_the_vector_a(first, second, momentum):
    """Σ a_i: how often each gradient counts in the end, 1 + ρ + … + ρ^(steps that are left)."""
    sums = [
        sum(sum(momentum**k for k in range(steps - t)) for t in range(steps))
        for steps in (first, second)
    ]
    one, other = shares(
        "fednova", [client(i, 5, steps=s, momentum=momentum) for i, s in enumerate((first, second))]
    )
    assert one / other == pytest.approx(sums[1] / sums[0], rel=1e-9)
    assert one * sums[0] == pytest.approx((sums[0] + sums[1]) / 4, rel=1e-9)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), trained_steps, st.floats(0, 0.999))
def test_fednova_is_fedavg_where_all_take_the_same_steps(counts, steps, momentum):
    clients = [client(i, n, steps=steps, momentum=momentum) for i, n in enumerate(counts)]
    np.testing.assert_allclose(shares("fednova", clients), shares("examples", clients), rtol=1e-12)


def proximal_training(gradient, steps, momentum, lr, mu):
    """The same, with the gradient μ x of a proximal term around the start, at 0."""
    x, velocity = np.zeros_like(gradient), np.zeros_like(gradient)
    for _ in range(steps):
        velocity = momentum * velocity + gradient + mu * x
        x = x - lr * velocity
    return x


@pytest.mark.parametrize(
    "term",
    [
        {"algorithm": "fedprox", "mu": 0.5, "proximal": None},
        {"algorithm": "fednova", "mu": None, "proximal": 0.5},
        {"proximal": 0.5},
    ],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_proximal_term_makes_the_steps_of_fednova_shorter(term, momentum):
    """With it a client's way is as long as its gradients are added up, ‖a‖₁."""
    counts, taken, lr = np.array([100, 300]), (50, 3), 0.1
    gradients = np.random.default_rng(0).standard_normal((2, 4))
    updates = np.array(
        [proximal_training(g, s, momentum, lr, 0.5) for g, s in zip(gradients, taken, strict=True)]
    )
    clients = [
        client(i, int(counts[i]), steps=taken[i], momentum=momentum, lr=lr, **term)
        for i in range(2)
    ]
    step, mean_gradient = shares("fednova", clients) @ updates, counts @ gradients / 400
    cosine = -step @ mean_gradient / np.linalg.norm(step) / np.linalg.norm(mean_gradient)
    assert cosine == pytest.approx(1, abs=1e-12)


def test_mu_is_a_proximal_term_in_fedprox_alone():
    """MOON has a mu too, and it does not draw the model back."""
    moon = {"algorithm": "moon", "mu": 5.0, "steps": 40, "momentum": 0.0, "lr": 0.1}
    clients = [client(0, **moon), client(1, **{**moon, "steps": 10})]
    assert shares("fednova", clients).tolist() == pytest.approx([25 / 80, 25 / 20])


@pytest.mark.parametrize("weighting", ["fednova", "qfedavg"])
def test_steps_of_another_optimizer_have_no_length(weighting):
    clients = [client(0, **GOOD, optimizer="sgd"), client(1, **GOOD, optimizer="adam")]
    with pytest.raises(
        UpdateError, match=r"^updates/1.safetensors: .* optimizer 'adam'"
    ) as refused:
        shares(weighting, clients, np.ones(2), q=1.0)
    assert "--optimizer sgd" in (refused.value.hint or "")


def test_steps_that_may_have_been_left_out_have_no_length():
    clients = [client(0, **GOOD, precision="bf16"), client(1, **GOOD, precision="fp16")]
    with pytest.raises(UpdateError, match=r"^updates/1.safetensors: .* precision fp16"):
        shares("fednova", clients)
    assert shares("fednova", clients[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    "absurd",
    [
        {"lr": 1e29, "proximal": 1e29},
        {"lr": 10.0, "proximal": 10.0, "steps": 1000},
        {"lr": 1.0, "proximal": 3.0, "momentum": 0.0, "steps": 2},
        {"steps": 10**29, "momentum": 0.99},
    ],
)
def test_steps_that_lead_nowhere_are_refused(absurd):
    with pytest.raises(UpdateError, match=r"^updates/0.safetensors: .*length of the steps"):
        shares("fednova", [client(0, **{**GOOD, **absurd})])


def test_staleness_is_a_discount_that_nobody_else_makes_up_for():
    """Nguyen et al. 2022: the sum of Δ_i / sqrt(1 + staleness), over the number of updates."""
    clients = [client(0, 10), client(1, 99, staleness=3), client(2, 1, staleness=8)]
    np.testing.assert_allclose(
        shares("staleness", clients, buffer=None, max_staleness=9), [1 / 3, 1 / 6, 1 / 9]
    )
    assert shares("staleness", [client(0, 10), client(1, 99)]).tolist() == [0.5, 0.5]


GOOD = {"lr": 0.1, "momentum": 0.9, "steps": 10, "initial_loss": 2.3}


@pytest.mark.parametrize("value", [None, "2", True, float("nan"), float("inf"), -1, 10**400, 1e308])
@pytest.mark.parametrize(
    ("weighting", "key"),
    [("qfedavg", "lr"), ("qfedavg", "initial_loss"), ("fednova", "steps"), ("fednova", "momentum")],
)
def test_a_record_that_is_no_such_number_is_refused_by_file_and_name(weighting, key, value):
    clients = [client(0, **GOOD), client(1, **{**GOOD, key: value})]
    with pytest.raises(UpdateError, match=rf"^updates/1.safetensors: .*\b{key}\b") as refused:
        shares(weighting, clients, np.ones(2), q=1.0)
    assert refused.value.status == ExitStatus.BAD_INPUT == 4
    assert len(refused.value.message) < 120


@pytest.mark.parametrize(
    ("weighting", "key", "value"),
    [("qfedavg", "lr", 0), ("fednova", "steps", 0), ("fednova", "momentum", 1)],
)
def test_a_record_that_would_be_divided_by_is_refused(weighting, key, value):
    with pytest.raises(UpdateError, match=rf"{key} from .* found {value}$"):
        shares(weighting, [client(0, **{**GOOD, key: value})], np.ones(1), q=1.0)


def test_a_record_that_is_not_there_is_refused_with_the_way_to_make_it():
    with pytest.raises(UpdateError, match="records no initial_loss") as refused:
        shares("qfedavg", [client(0, lr=0.1)], np.ones(1), q=1.0)
    assert refused.value.hint
    assert "--initial-loss" in refused.value.hint


def test_q_fedavg_refuses_clients_with_learning_rates_of_their_own():
    clients = [client("a", **GOOD), client("b", **GOOD), client("c", **{**GOOD, "lr": 0.2})]
    expected = "the same lr from all clients, found 0.1 for a and 0.2 for c"
    with pytest.raises(UpdateError, match=re.escape(expected)):
        shares("qfedavg", clients, np.ones(3), q=1.0)
