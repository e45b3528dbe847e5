"""What is done with the pseudo-gradient: the server's half of Reddi et al. 2021, algorithm 2.

``delta`` is what the reducer made, less the current model: the negative of a gradient. An
optimizer sees one block of it at a time, and of its state, all float64; it returns the step that
is added to the model. Only parameters pass through it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.strategies.combination import Options

Block = NDArray[np.float64]
State = dict[str, Block]


@dataclass(frozen=True)
class ServerOptimizer:
    """A row of ``SERVER_OPTIMIZERS``.

    ``start`` gives the slots of its state and the value that each starts from. ``step`` is given
    delta, the state, which it changes in place, the number of this step from 1 on, and the
    options.
    """

    summary: str
    source: str
    options: Mapping[str, Any]
    start: Callable[[Options], dict[str, float]]
    step: Callable[[Block, State, int, Options], Block]

    def is_identity(self, options: Options) -> bool:
        """Whether the next model is what the reducer made, as it is."""
        return self is _SGD and options["server_lr"] == 1 and options["server_momentum"] == 0


def _sgd_start(options: Options) -> dict[str, float]:
    return {"momentum": 0.0} if options["server_momentum"] else {}


def _sgd(delta: Block, state: State, _: int, options: Options) -> Block:
    """``v ← β v + Δ``, ``x ← x + η v``: FedAvgM, and ``torch.optim.SGD`` without dampening."""
    if options["server_momentum"]:
        state["momentum"] *= options["server_momentum"]
        state["momentum"] += delta
        delta = state["momentum"]
    step: Block = options["server_lr"] * delta
    return step


def _adaptive_start(options: Options) -> dict[str, float]:
    # Reddi et al. ask for v ≥ τ² at the start; with bias correction a start other than 0 would
    # be "corrected" too.
    start = {"momentum": 0.0} if options["beta1"] else {}
    return {**start, "variance": 0.0 if options.get("bias_correction") else options["tau"] ** 2}


def _first_moment(delta: Block, state: State, options: Options) -> Block:
    if not options["beta1"]:
        return delta
    state["momentum"] *= options["beta1"]
    state["momentum"] += (1 - options["beta1"]) * delta
    return state["momentum"]


def _adaptive_step(momentum: Block, variance: Block, steps: int, options: Options) -> Block:
    scale = options["server_lr"]
    if options.get("bias_correction"):
        scale /= 1 - options["beta1"] ** steps
        variance = variance / (1 - options["beta2"] ** steps)
    step: Block = scale * momentum / (np.sqrt(variance) + options["tau"])
    return step


def _adagrad(delta: Block, state: State, steps: int, options: Options) -> Block:
    """``v ← v + Δ²``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    state["variance"] += delta * delta
    return _adaptive_step(momentum, state["variance"], steps, options)


def _adam(delta: Block, state: State, steps: int, options: Options) -> Block:
    """``v ← β₂ v + (1 - β₂) Δ²``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    state["variance"] *= options["beta2"]
    state["variance"] += (1 - options["beta2"]) * (delta * delta)
    return _adaptive_step(momentum, state["variance"], steps, options)


def _yogi(delta: Block, state: State, steps: int, options: Options) -> Block:
    """``v ← v - (1 - β₂) Δ² sign(v - Δ²)``, ``x ← x + η m / (√v + τ)``."""
    momentum = _first_moment(delta, state, options)
    squared = delta * delta
    state["variance"] -= (1 - options["beta2"]) * squared * np.sign(state["variance"] - squared)
    return _adaptive_step(momentum, state["variance"], steps, options)


_MOMENTS: dict[str, Any] = {
    "server_lr": 0.01,
    "beta1": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "bias_correction": False,
}
_SGD = ServerOptimizer(
    "the pseudo-gradient, with momentum where it is asked for",
    "Hsu et al. 2019 (FedAvgM)",
    {"server_lr": 1.0, "server_momentum": 0.0},
    _sgd_start,
    _sgd,
)
SERVER_OPTIMIZERS: dict[str, ServerOptimizer] = {
    "sgd": _SGD,
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
}
