"""Rules that decide from updates in memory, as `fedcli aggregate` does from files."""

import numpy as np
import pytest

from fedcli.strategies import REDUCERS
from fedcli.strategies.decision import Clients, Decision, LinearDecision, Shares

RNG = np.random.default_rng(2026)
UPDATES = {
    "random": RNG.standard_normal((11, 6)),
    "tied": RNG.integers(0, 2, (11, 2)).astype(float),
    "all the same": np.full((11, 6), 0.3),
    "unchanged": np.zeros((11, 6)),
    "one unchanged": np.vstack([RNG.standard_normal((10, 6)), np.zeros((1, 6))]),
    "one dimension": RNG.standard_normal((11, 1)),
    "huge": RNG.standard_normal((11, 6)) * 1e30,
    "tiny": RNG.standard_normal((11, 6)) * 1e-30,
    "huge beside tiny": RNG.standard_normal((11, 6)) * np.logspace(-30, 30, 11)[:, None],
}
inputs = pytest.mark.parametrize("updates", UPDATES.values(), ids=UPDATES.keys())


def decide(rule, updates, weights=None, center=None, **options) -> Decision:
    """Decide as `fedcli aggregate` does, from updates (clients, parameters) in memory."""
    reducer = REDUCERS[rule]
    weights = np.ones(len(updates)) if weights is None else np.asarray(weights, float)
    rows = updates if center is None else np.vstack([updates, center])
    gram = rows @ rows.T
    squares = gram.diagonal()[: len(updates)]
    clients = Clients(Shares(weights, weights.sum()), squares, gram, center is not None)
    return reducer.decide(
        clients, reducer.prepare(len(updates), {**dict(reducer.options), **options})
    )


def result(decision, updates, center=None):
    """Carry a decision out."""
    if not isinstance(decision, LinearDecision):
        return decision.combine(updates[list(decision.kept)])
    total = (decision.shares.weights / decision.shares.divisor) @ updates
    return total if center is None else total + decision.center * np.asarray(center)


def size(updates):
    return max(np.linalg.norm(updates, axis=1).max(), np.finfo(float).tiny)
