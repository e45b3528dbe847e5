"""Server optimizers: the server's half of Reddi et al. 2021, algorithm 2.

``delta`` is the reducer's result minus the current model, a negative pseudo-gradient. An optimizer
gets it, and its state, one float64 block at a time, and returns the step to add to the model.
It changes parameters only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcli.formats.dtypes import Values
from fedcli.strategies.decision import RuleOptions, Step

SlotValues = dict[str, Values]


def _never(_: RuleOptions, __: Mapping[str, float]) -> bool:
    return False


@dataclass(frozen=True)
class ServerOptimizer:
    """A row of ``SERVER_OPTIMIZERS``.

    ``start`` returns the slots of its state with their start values. ``step`` takes delta, the
    state, which it changes in place, and the options. ``is_identity`` takes the options and what
    clients recorded, and returns whether the reducer's result is the next model. ``records`` maps
    the numbers on which all clients must agree to the command that records them. With
    ``of_mean``, it needs a mean over the clients that take part, and the number of all clients.
    The slot ``control`` accumulates the controls that come with the updates.
    """

    summary: str
    source: str
    options: Mapping[str, Any]
    start: Callable[[RuleOptions], dict[str, float]]
    step: Callable[[Values, SlotValues, Step, RuleOptions], Values]
    is_identity: Callable[[RuleOptions, Mapping[str, float]], bool] = _never
    records: Mapping[str, str] = field(default_factory=dict)
    of_mean: bool = False


def _sgd_start(options: RuleOptions) -> dict[str, float]:
    return {"momentum": 0.0} if options["server_momentum"] else {}


def _sgd_is_identity(options: RuleOptions, _: Mapping[str, float]) -> bool:
    return bool(options["server_lr"] == 1 and options["server_momentum"] == 0)


def _sgd(delta: Values, state: SlotValues, _: Step, options: RuleOptions) -> Values:
    """``v ← β v + Δ``, ``x ← x + η v``: FedAvgM, and ``torch.optim.SGD`` without dampening."""
    if options["server_momentum"]:
        state["momentum"] *= options["server_momentum"]
        state["momentum"] += delta
        delta = state["momentum"]
    step: Values = options["server_lr"] * delta
    return step


def _adaptive_start(options: RuleOptions) -> dict[str, float]:
    # Reddi et al. require v ≥ τ² at the start, but bias correction assumes a start from 0.
    start = {"momentum": 0.0} if options["beta1"] else {}
    return {**start, "variance": 0.0 if options.get("bias_correction") else options["tau"] ** 2}


def _first_moment(delta: Values, state: SlotValues, options: RuleOptions) -> Values:
    if not options["beta1"]:
        return delta
    state["momentum"] *= options["beta1"]
    state["momentum"] += (1 - options["beta1"]) * delta
    return state["momentum"]


def _adaptive_step(momentum: Values, variance: Values, steps: int, options: RuleOptions) -> Values:
    scale = options["server_lr"]
    if options.get("bias_correction"):
        scale /= 1 - options["beta1"] ** steps
        variance = variance / (1 - options["beta2"] ** steps)
    step: Values = scale * momentum / (np.sqrt(variance) + options["tau"])
    return step


def _adagrad(delta: Values, state: SlotValues, step: Step, options: RuleOptions) -> Values:
    """``v ← v + Δ²``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    state["variance"] += delta * delta
    return _adaptive_step(momentum, state["variance"], step.number, options)


def _adam(delta: Values, state: SlotValues, step: Step, options: RuleOptions) -> Values:
    """``v ← β₂ v + (1 - β₂) Δ²``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    state["variance"] *= options["beta2"]
    state["variance"] += (1 - options["beta2"]) * (delta * delta)
    return _adaptive_step(momentum, state["variance"], step.number, options)


def _yogi(delta: Values, state: SlotValues, step: Step, options: RuleOptions) -> Values:
    """``v ← v - (1 - β₂) Δ² sign(v - Δ²)``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    squared = delta * delta
    state["variance"] -= (1 - options["beta2"]) * squared * np.sign(state["variance"] - squared)
    return _adaptive_step(momentum, state["variance"], step.number, options)


def _scaffold_start(_: RuleOptions) -> dict[str, float]:
    return {"control": 0.0}


def _scaffold_is_identity(options: RuleOptions, _: Mapping[str, float]) -> bool:
    return bool(options["server_lr"] == 1)


def _scaffold(delta: Values, _: SlotValues, __: Step, options: RuleOptions) -> Values:
    """``x ← x + η Δ``. The control does not depend on Δ: ``c ← c + |S|/N mean Δc_i``."""
    step: Values = options["server_lr"] * delta
    return step


def _feddyn_start(_: RuleOptions) -> dict[str, float]:
    return {"dual": 0.0}


def _feddyn_is_identity(_: RuleOptions, recorded: Mapping[str, float]) -> bool:
    return recorded["feddyn_alpha"] == 0


def _feddyn(delta: Values, state: SlotValues, step: Step, _: RuleOptions) -> Values:
    """``d ← d - |S|/N Δ``, ``x ← x + Δ - d``, where d is the paper's h / α.

    α is only a factor of h, so it does not appear here. With α = 0 there is neither h nor d.
    """
    state["dual"] -= step.share * delta
    moved: Values = delta - state["dual"]
    return moved


_MOMENTS: dict[str, Any] = {
    "server_lr": 0.01,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "bias_correction": False,
}
SERVER_OPTIMIZERS: dict[str, ServerOptimizer] = {
    "sgd": ServerOptimizer(
        "the pseudo-gradient, with optional momentum",
        "Hsu et al. 2019 (FedAvgM)",
        {"server_lr": 1.0, "server_momentum": 0.0},
        _sgd_start,
        _sgd,
        _sgd_is_identity,
    ),
    "adagrad": ServerOptimizer(
        "Adagrad; no bias correction, v starts from τ²",
        "Reddi et al. 2021, algorithm 2",
        {"server_lr": 0.01, "beta1": 0.0, "tau": 1e-3},
        _adaptive_start,
        _adagrad,
    ),
    "adam": ServerOptimizer(
        "Adam; bias correction only on request, else v starts from τ²",
        "Reddi et al. 2021, algorithm 2",
        _MOMENTS,
        _adaptive_start,
        _adam,
    ),
    "yogi": ServerOptimizer(
        "Yogi; bias correction only on request, else v starts from τ²",
        "Reddi et al. 2021, algorithm 2",
        _MOMENTS,
        _adaptive_start,
        _yogi,
    ),
    "scaffold": ServerOptimizer(
        "the step, and a control variate that clients read; means only",
        "Karimireddy et al. 2020, algorithm 1",
        {"server_lr": 1.0},
        _scaffold_start,
        _scaffold,
        _scaffold_is_identity,
        of_mean=True,
    ),
    "feddyn": ServerOptimizer(
        "the step, plus the sum of all steps so far; means only",
        "Acar et al. 2021, algorithm 1",
        {},
        _feddyn_start,
        _feddyn,
        _feddyn_is_identity,
        records={"feddyn_alpha": "train-client --algorithm feddyn"},
        of_mean=True,
    ),
}
