"""Server optimizers: torch's own step by step, and the equations of Reddi et al. 2021."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcli.strategies import SERVER_OPTIMIZERS
from fedcli.strategies.decision import Step

STEPS = 10
RNG = np.random.default_rng(0)
STARTS = RNG.standard_normal(9)
DELTAS = {
    "random": RNG.standard_normal((STEPS, 9)),
    "constant": np.full((STEPS, 9), -0.01),
    "none": np.zeros((STEPS, 9)),
    "huge": RNG.standard_normal((STEPS, 9)) * 1e30,
    "tiny": RNG.standard_normal((STEPS, 9)) * 1e-30,
    "now and then": RNG.standard_normal((STEPS, 9)) * (np.arange(STEPS) % 4 == 0)[:, None],
}
inputs = pytest.mark.parametrize("deltas", DELTAS.values(), ids=DELTAS.keys())
moments = st.floats(0, 0.999)
Models = Iterator[np.ndarray[Any, Any]]


def models(name: str, deltas: np.ndarray[Any, Any], **options: Any) -> Models:
    """Yield the model after every step, from updates that differ by ``deltas`` from it."""
    optimizer = SERVER_OPTIMIZERS[name]
    options = {**optimizer.options, **options}
    model = STARTS.copy()
    state = {slot: np.full(9, value) for slot, value in optimizer.start(options).items()}
    for step, delta in enumerate(deltas, start=1):
        model = model + optimizer.step(delta.copy(), state, Step(step), options)
        yield model


def torch_models(
    make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], deltas: np.ndarray[Any, Any]
) -> Models:
    """Yield the same of an optimizer of torch, whose gradient is -delta."""
    parameter = torch.tensor(STARTS, dtype=torch.float64, requires_grad=True)
    optimizer = make([parameter])
    for delta in deltas:
        parameter.grad = torch.from_numpy(-delta)
        optimizer.step()
        yield parameter.detach().numpy().copy()


def assert_same(ours: Models, expected: Models) -> None:
    for model, reference in zip(ours, expected, strict=True):
        scale = np.abs(reference - STARTS).max()
        np.testing.assert_allclose(model, reference, rtol=1e-12, atol=1e-12 * scale)


@inputs
@pytest.mark.parametrize("lr", [1.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_one_of_torch(deltas: Any, lr: float, momentum: float) -> None:
    assert_same(
        models("sgd", deltas, server_lr=lr, server_momentum=momentum),
        torch_models(lambda p: torch.optim.SGD(p, lr, momentum), deltas),
    )


@inputs
@pytest.mark.parametrize("tau", [1e-3, 0.1])
def test_adagrad_without_momentum_is_the_one_of_torch(deltas: Any, tau: float) -> None:
    assert_same(
        models("adagrad", deltas, server_lr=0.1, tau=tau),
        torch_models(
            lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=tau**2, eps=tau), deltas
        ),
    )


@inputs
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.999), (0.5, 0.0)])
def test_adam_with_bias_correction_is_the_one_of_torch(deltas: Any, betas: Any) -> None:
    beta1, beta2 = betas
    assert_same(
        models("adam", deltas, server_lr=0.1, beta1=beta1, beta2=beta2, bias_correction=True),
        torch_models(lambda p: torch.optim.Adam(p, 0.1, betas, eps=1e-3), deltas),
    )


def by_equations(
    name: str, deltas: np.ndarray[Any, Any], lr: float, beta1: float, beta2: float, tau: float
) -> Models:
    """Reddi et al. 2021, algorithm 2, coordinate by coordinate; m starts from 0 and v from τ²."""
    x = STARTS.copy()
    m, v = [0.0] * 9, [tau**2] * 9
    for delta in deltas.tolist():
        for i, d in enumerate(delta):
            m[i] = beta1 * m[i] + (1 - beta1) * d
            if name == "adagrad":
                v[i] = v[i] + d**2
            elif name == "yogi":
                sign = (v[i] > d**2) - (v[i] < d**2)
                v[i] = v[i] - (1 - beta2) * d**2 * sign
            else:
                v[i] = beta2 * v[i] + (1 - beta2) * d**2
            x[i] = x[i] + lr * m[i] / (v[i] ** 0.5 + tau)
        yield x.copy()


@inputs
@pytest.mark.parametrize("name", ["adagrad", "adam", "yogi"])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.99), (0.0, 0.5), (0.7, 0.0)])
def test_adaptive_optimizers_follow_their_equations(
    name: str, beta1: float, beta2: float, deltas: Any
) -> None:
    betas = {"beta1": beta1} if name == "adagrad" else {"beta1": beta1, "beta2": beta2}
    assert_same(
        models(name, deltas, server_lr=0.1, tau=0.01, **betas),
        by_equations(name, deltas, 0.1, beta1, beta2, 0.01),
    )


@given(moments, moments, st.floats(1e-20, 1e20), st.booleans())
def test_bias_correction_makes_the_first_step_as_long_as_if_there_were_no_momentum(
    beta1: float, beta2: float, delta: float, yogi: bool
) -> None:
    """Kingma and Ba 2015, section 3: m / (1 - β₁) = Δ and v / (1 - β₂) = Δ² after one step."""
    (model,) = models(
        "yogi" if yogi else "adam",
        np.full((1, 9), delta),
        server_lr=0.1,
        beta1=beta1,
        beta2=beta2,
        bias_correction=True,
    )
    np.testing.assert_allclose(model, STARTS + 0.1 * delta / (delta + 1e-3), rtol=1e-9)


@given(st.lists(st.floats(-1e10, 1e10), min_size=1, max_size=30), moments, st.floats(1e-8, 1))
def test_yogis_variance_is_never_negative_and_moves_by_little(
    deltas: list[float], beta2: float, tau: float
) -> None:
    """Zaheer et al. 2018, section 4: |v_t - v_{t-1}| = (1 - β₂) Δ²."""
    yogi = SERVER_OPTIMIZERS["yogi"]
    options = {**yogi.options, "beta2": beta2, "tau": tau}
    state = {slot: np.full(1, value) for slot, value in yogi.start(options).items()}
    for step, delta in enumerate(deltas, start=1):
        before = state["variance"].copy()
        moved = yogi.step(np.array([delta]), state, Step(step), options)
        assert state["variance"] >= 0
        bound = (1 - beta2) * delta**2
        assert abs(state["variance"] - before) <= bound + 1e-12 * (bound + before)
        assert np.isfinite(moved)


@pytest.mark.parametrize("name", ["adagrad", "adam", "yogi"])
@pytest.mark.parametrize("correct", [False, True])
def test_a_model_that_nobody_changed_stays_as_it_is(name: str, correct: bool) -> None:
    options = {"bias_correction": correct} if name != "adagrad" else {}
    for model in models(name, np.zeros((3, 9)), **options):
        assert np.array_equal(model, STARTS)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_a_block_at_a_time_is_the_same_as_all_at_once(name: str) -> None:
    """The state is of each coordinate alone: cutting it elsewhere changes no bit."""
    optimizer = SERVER_OPTIMIZERS[name]
    options = {**optimizer.options, **({"server_momentum": 0.9} if name == "sgd" else {})}
    start = optimizer.start(options)
    whole = {slot: np.full(9, value) for slot, value in start.items()}
    parts = {slot: np.full(9, value) for slot, value in start.items()}
    for step, delta in enumerate(DELTAS["random"], start=1):
        together = optimizer.step(delta, whole, Step(step, 0.3), options)
        for place in (slice(0, 4), slice(4, 5), slice(5, 9)):
            views = {slot: values[place] for slot, values in parts.items()}
            alone = optimizer.step(delta[place], views, Step(step, 0.3), options)
            assert np.array_equal(alone, together[place])


def test_who_takes_the_reducers_result_as_it_is() -> None:
    """SGD of rate 1 without momentum, SCAFFOLD of rate 1, FedDyn without its term."""
    identities = {
        (name, lr, momentum, alpha)
        for name, optimizer in SERVER_OPTIMIZERS.items()
        for lr in (1.0, 0.5)
        for momentum in (0.0, 0.9)
        for alpha in (0.0, 0.1)
        if optimizer.is_identity(
            {"server_lr": lr, "server_momentum": momentum}, {"feddyn_alpha": alpha}
        )
    }
    assert identities == {
        *(("sgd", 1.0, 0.0, alpha) for alpha in (0.0, 0.1)),
        *(("scaffold", 1.0, m, alpha) for m in (0.0, 0.9) for alpha in (0.0, 0.1)),
        *(("feddyn", lr, m, 0.0) for lr in (1.0, 0.5) for m in (0.0, 0.9)),
    }
    sgd = models("sgd", DELTAS["random"])
    assert np.array_equal(next(sgd), STARTS + DELTAS["random"][0])
