"""How much each client counts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcli.errors import UpdateError
from fedcli.strategies.combination import Contributor, Measures, Options, Shares, Weights

_LEAST_LOSS = 1e-10  # so that F^(q-1) exists for a client that has nothing left to learn
_TOO_LARGE = 1e30  # for a loss, a rate or a number of steps that somebody reports


@dataclass(frozen=True)
class Weighting:
    """A row of ``WEIGHTINGS``. ``weigh`` is given the |Δ_i|² where ``measures`` asks for them.

    Only with ``of_partials`` can updates be added up in parts, since the weight of an update then
    depends on nothing but itself. An ``asynchronous`` weighting counts late updates; one that
    ``needs_initial_loss`` needs it recorded by the clients.
    """

    summary: str
    source: str
    weigh: Callable[[Sequence[Contributor], Weights | None, Options], Shares]
    options: Mapping[str, Any] = field(default_factory=dict)
    measures: Measures = Measures.NOTHING
    of_partials: bool = False
    asynchronous: bool = False
    needs_initial_loss: bool = False


def _by_examples(clients: Sequence[Contributor], _: Weights | None, __: Options) -> Shares:
    counts = [client.num_examples for client in clients]
    return Shares(np.array(counts, np.float64), float(sum(counts)))


def _uniform(clients: Sequence[Contributor], _: Weights | None, __: Options) -> Shares:
    counts = [client.clients for client in clients]
    return Shares(np.array(counts, np.float64), float(sum(counts)))


def _q_fedavg(clients: Sequence[Contributor], squares: Weights | None, options: Options) -> Shares:
    """q-FedAvg, Li et al. 2020, algorithm 2, with L = 1 / learning rate.

    c_k = L F_k^q / Σ_j (q F_j^(q-1) |L Δ_j|² + L F_j^q), F_k the loss of the model that client k
    was given on its own examples. The clients' numbers of examples do not enter.
    """
    assert squares is not None
    q = options["q"]
    lipschitz = 1 / _one_learning_rate(clients)
    losses = [_recorded(c, "initial_loss", "train-client --initial-loss") for c in clients]
    loss = np.maximum(np.array(losses, np.float64), _LEAST_LOSS)
    # Only ratios count: F^q of the highest loss is taken to be 1, so that no power overflows.
    powers = (loss / loss.max()) ** q
    weights = lipschitz * powers
    steps = q * (powers / loss) * lipschitz**2 * squares + weights
    return Shares(weights, float(steps.sum()))


def _fednova(clients: Sequence[Contributor], _: Weights | None, __: Options) -> Shares:
    """FedNova, Wang et al. 2020: c_i = p_i τ_eff / |a_i|, τ_eff = Σ p_i |a_i|."""
    counts = np.array([client.num_examples for client in clients], np.float64)
    lengths = np.array([_length(client) for client in clients], np.float64)
    total = float(counts.sum())
    effective = float((counts * lengths).sum()) / total
    return Shares(counts * (effective / lengths), total)


def _length(client: Contributor) -> float:
    """Return |a_i|₁, to which τ steps of SGD with momentum ρ add up (same paper)."""
    steps = _recorded(client, "steps", "train-client of this version", least=1)
    momentum = _recorded(client, "momentum", "train-client of this version", below=1)
    last: float = momentum**steps
    return (steps - momentum * (1 - last) / (1 - momentum)) / (1 - momentum)


def _by_staleness(clients: Sequence[Contributor], _: Weights | None, __: Options) -> Shares:
    """FedBuff, Nguyen et al. 2022, section 5: 1 / sqrt(1 + staleness), over the number of updates.

    The weights of stale updates are not made up for: the step gets shorter.
    """
    weights = [1 / math.sqrt(1 + client.staleness) for client in clients]
    return Shares(np.array(weights), float(len(clients)))


def _recorded(
    client: Contributor, key: str, how: str, least: float = 0, below: float = _TOO_LARGE
) -> float:
    value: Any = client.training.get(key)
    if type(value) not in (int, float):
        raise UpdateError(
            f"{client.path}: records no {key}, which this weighting needs",
            hint=f"updates made with {how} do",
        )
    if not least <= value < below:
        raise UpdateError(
            f"{client.path}: this weighting expects {key} from {least:g} to below {below:g},"
            f" found {value!r:.20}"
        )
    return float(value)


def _one_learning_rate(clients: Sequence[Contributor]) -> float:
    rates = {c.name: _recorded(c, "lr", "train-client", 1 / _TOO_LARGE) for c in clients}
    first, *rest = rates
    for name in rest:
        if rates[name] != rates[first]:
            raise UpdateError(
                "qfedavg: expected one learning rate for all clients, found"
                f" {rates[first]:g} for {first} and {rates[name]:g} for {name}"
            )
    return rates[first]


WEIGHTINGS: dict[str, Weighting] = {
    "examples": Weighting(
        "a client counts in proportion to its number of examples",
        "McMahan et al. 2017",
        _by_examples,
        of_partials=True,
    ),
    "uniform": Weighting(
        "every client counts the same", "McMahan et al. 2017", _uniform, of_partials=True
    ),
    "qfedavg": Weighting(
        "clients with a higher loss count more, by the power q",
        "Li et al. 2020 (q-FFL), algorithm 2",
        _q_fedavg,
        {"q": 1.0},
        Measures.SQUARES,
        needs_initial_loss=True,
    ),
    "fednova": Weighting(
        "an update is divided by the length of its local steps",
        "Wang et al. 2020 (FedNova)",
        _fednova,
    ),
    "staleness": Weighting(
        "1 / sqrt(1 + s) for an update that is s rounds late; late updates count",
        "Nguyen et al. 2022 (FedBuff)",
        _by_staleness,
        {"buffer": None, "max_staleness": 4},
        asynchronous=True,
    ),
}
