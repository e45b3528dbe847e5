"""Every rule, whole models at once in float64, written from the equations of the papers.

A model is one vector here: of its parameters, or of its float buffers, or of its counters.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass
class Clients:
    """What came from the clients, a row for each: ``deltas`` are of parameters only."""

    deltas: Matrix
    examples: list[int]
    training: list[dict[str, float]]
    options: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.deltas)


def _distances(deltas: Matrix) -> Matrix:
    return np.array([[float(((a - b) ** 2).sum()) for b in deltas] for a in deltas])


def _scores(distances: Matrix, f: int) -> list[float]:
    n = len(distances)
    rows = [sorted(np.delete(row, i).tolist()) for i, row in enumerate(distances)]
    return [sum(row[: max(1, n - f - 2)]) for row in rows]


def _krum(clients: Clients, keep: int) -> dict[int, float]:
    scores = _scores(_distances(clients.deltas), clients.options["byzantine"])
    best = sorted(range(len(clients)), key=lambda i: scores[i])[:keep]
    return dict.fromkeys(sorted(best), 1 / keep)


def _bulyan_choice(clients: Clients) -> list[int]:
    f, distances = clients.options["byzantine"], _distances(clients.deltas)
    left, chosen = list(range(len(clients))), []
    while len(chosen) < len(clients) - 2 * f:
        scores = _scores(distances[np.ix_(left, left)], f)
        chosen.append(left.pop(scores.index(min(scores))))
    return sorted(chosen)


def _weiszfeld(clients: Clients) -> list[float]:
    shares = np.full(len(clients), 1 / len(clients))
    point, weights, before = shares @ clients.deltas, shares, None
    while before is None or np.abs(weights - before).max() > 1e-14:
        before = weights
        far = [max(1e-6, float(np.linalg.norm(point - delta))) for delta in clients.deltas]
        weights = shares / far
        weights /= weights.sum()
        point = weights @ clients.deltas
    return weights.tolist()


def _clip(delta: Vector, bound: float) -> float:
    return min(1.0, bound / float(np.linalg.norm(delta)))


def _foolsgold(deltas: Matrix) -> list[float]:
    n = len(deltas)
    unit = [delta / np.linalg.norm(delta) for delta in deltas]
    cs = [[float(unit[i] @ unit[j]) if i != j else -1.0 for j in range(n)] for i in range(n)]
    v = [max(max(row), 0.0) for row in cs]
    alpha = []
    for i in range(n):
        pardoned = [cs[i][j] * (v[i] / v[j] if v[j] > v[i] else 1.0) for j in range(n)]
        alpha.append(min(max(1 - max(pardoned), 0.0), 1.0))
    alpha = [a / max(alpha) for a in alpha]
    alpha = [a if a < 0.99 else 0.99 for a in alpha]
    logits = [math.log(a / (1 - a)) + 0.5 if a > 0 else 0.0 for a in alpha]
    weights = [min(max(x, 0.0), 1.0) for x in logits]
    return [w / sum(weights) for w in weights]


def _q_fedavg(clients: Clients) -> list[float]:
    q, lipschitz = clients.options.get("q", 1.0), 1 / clients.training[0]["lr"]
    losses = [t["initial_loss"] for t in clients.training]
    steps = [
        q * loss ** (q - 1) * float(((lipschitz * delta) ** 2).sum()) + lipschitz * loss**q
        for loss, delta in zip(losses, clients.deltas, strict=True)
    ]
    return [lipschitz * loss**q / sum(steps) for loss in losses]


def _fednova(clients: Clients) -> list[float]:
    p = [n / sum(clients.examples) for n in clients.examples]
    lengths = []
    for t in clients.training:
        momentum = t["momentum"]
        a = [(1 - momentum ** (t["steps"] - i)) / (1 - momentum) for i in range(int(t["steps"]))]
        lengths.append(sum(a))
    effective = sum(share * length for share, length in zip(p, lengths, strict=True))
    return [share * effective / length for share, length in zip(p, lengths, strict=True)]


def coefficients(strategy: str, clients: Clients) -> dict[int, float] | None:
    """Return c of x + Σ c_i Δ_i; None for the rules that look at each coordinate alone."""
    n, options = len(clients), clients.options
    shares = [count / sum(clients.examples) for count in clients.examples]
    if strategy in ("median", "trimmed-mean", "bulyan"):
        return None
    if strategy in ("krum", "multi-krum"):
        return _krum(clients, 1 if strategy == "krum" else options["keep"])
    if strategy == "rfa":
        return dict(enumerate(_weiszfeld(clients)))
    if strategy == "clipped-mean":
        factors = [_clip(delta, options["clip_norm"]) for delta in clients.deltas]
        return {i: factor / n for i, factor in enumerate(factors)}
    if strategy == "centered-clipping":  # of a first round: around the base model
        return {i: _clip(d, options["clip_norm"]) / n for i, d in enumerate(clients.deltas)}
    if strategy == "foolsgold":
        return {i: w for i, w in enumerate(_foolsgold(clients.deltas)) if w}
    if strategy == "qfedavg":
        return dict(enumerate(_q_fedavg(clients)))
    if strategy == "fednova":
        return dict(enumerate(_fednova(clients)))
    if strategy in ("fedbuff", "scaffold", "feddyn"):  # nobody is late
        return dict.fromkeys(range(n), 1 / n)
    return dict(enumerate(shares))


def coordinate_wise(strategy: str, models: Matrix, clients: Clients) -> Vector:
    """Return the median, the trimmed mean, or Bulyan of models (clients, coordinates)."""
    if strategy == "median":
        return np.median(models, axis=0)
    if strategy == "trimmed-mean":
        cut = int(clients.options["trim"] * len(models))
        return np.sort(models, axis=0)[cut : len(models) - cut].mean(axis=0)
    chosen = np.sort(models[_bulyan_choice(clients)], axis=0)
    count = len(chosen) - 2 * clients.options["byzantine"]
    order = np.argsort(np.abs(chosen - np.median(chosen, axis=0)), axis=0, kind="stable")
    return np.take_along_axis(chosen, order[:count], axis=0).mean(axis=0)


def first_step(strategy: str, delta: Vector) -> Vector:
    """Return the step of the server optimizer in round 1, with the defaults of the strategy."""
    lr, tau, beta2 = 0.01, 1e-3, 0.99
    if strategy == "fedadagrad":
        return lr * delta / (np.sqrt(tau**2 + delta**2) + tau)
    if strategy == "fedadam":
        variance = beta2 * tau**2 + (1 - beta2) * delta**2
        return lr * 0.1 * delta / (np.sqrt(variance) + tau)
    if strategy == "fedyogi":
        variance = tau**2 - (1 - beta2) * delta**2 * np.sign(tau**2 - delta**2)
        return lr * 0.1 * delta / (np.sqrt(variance) + tau)
    if strategy == "feddyn":  # all take part: -h / α is the step itself
        return 2 * delta
    return delta


MEANS = {
    *("fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"),
    *("qfedavg", "fednova", "fedbuff", "scaffold", "feddyn"),
}
