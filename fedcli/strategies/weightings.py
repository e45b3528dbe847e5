"""The weightings: how much each client counts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcli.algorithms import ALGORITHMS, LocalAlgorithm
from fedcli.algorithms.lengths import normalized_steps
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Values
from fedcli.strategies.claims import within_reach
from fedcli.strategies.decision import Contributor, Measures, RuleOptions, Shares
from fedcli.strategies.recorded import (
    TOO_LARGE,
    check_every_step,
    check_sgd,
    recorded,
    recorded_alike,
    recorded_count,
)

_LEAST_LOSS = 1e-10  # so that F^(q-1) is finite for a client whose loss is 0


@dataclass(frozen=True)
class Weighting:
    """A row of ``WEIGHTINGS``. ``weigh`` takes the |Δ_i|² if ``measures`` requests them.

    ``of_partials`` allows partial means, because the weight of an update depends only on itself.
    An ``asynchronous`` weighting accepts late updates. With ``needs_initial_loss``, clients must
    record their initial loss. ``multiplies`` names the claims that weights are proportional to.
    """

    summary: str
    source: str
    weigh: Callable[[Sequence[Contributor], Values | None, RuleOptions], Shares]
    options: Mapping[str, Any] = field(default_factory=dict)
    measures: Measures = Measures.NOTHING
    of_partials: bool = False
    asynchronous: bool = False
    needs_initial_loss: bool = False
    multiplies: tuple[str, ...] = ()


def _by_examples(clients: Sequence[Contributor], _: Values | None, __: RuleOptions) -> Shares:
    counts = [_examples(client) for client in clients]
    return Shares(np.array(counts, np.float64), float(sum(counts)))


def _examples(client: Contributor) -> int:
    if client.num_examples is None:
        raise UpdateError(
            "withholds its number of examples, by which clients are weighted here",
            hint="fedcli aggregate --weighting uniform counts clients alike",
            path=client.path,
            client=client.name,
        )
    return client.num_examples


def _uniform(clients: Sequence[Contributor], _: Values | None, __: RuleOptions) -> Shares:
    counts = [client.clients for client in clients]
    return Shares(np.array(counts, np.float64), float(sum(counts)))


def _q_fedavg(
    clients: Sequence[Contributor], squares: Values | None, options: RuleOptions
) -> Shares:
    """q-FedAvg, Li et al. 2020, algorithm 2, with L = 1 / learning rate.

    c_k = L F_k^q / Σ_j (q F_j^(q-1) |L Δ_j|² + L F_j^q), where F_k is the base model's loss on the
    examples of client k. The clients' numbers of examples have no effect.
    """
    assert squares is not None
    q = options["q"]
    for client in clients:
        check_sgd("qfedavg uses 1 / lr of SGD as the Lipschitz constant", client)
    lipschitz = 1 / recorded_alike("qfedavg", clients, "lr", "train-client", 1 / TOO_LARGE)
    losses = [recorded(c, "initial_loss", "train-client --initial-loss") for c in clients]
    losses = [max(loss, _LEAST_LOSS) for loss in losses]
    # With q below 1, a loss near 0 makes everybody's step vanish.
    loss, bounded = within_reach(clients, "initial_loss", losses, both=q < 1)
    # Only ratios matter: the highest loss is scaled to 1, so that no power overflows.
    powers = (loss / loss.max()) ** q
    weights = lipschitz * powers
    steps = q * (powers / loss) * lipschitz**2 * squares + weights
    return Shares(weights, float(steps.sum()), bounded)


def _fednova(clients: Sequence[Contributor], _: Values | None, __: RuleOptions) -> Shares:
    """FedNova, Wang et al. 2020: c_i = p_i τ_eff / |a_i|, τ_eff = Σ p_i |a_i|.

    Clients have the same p_i if all of them withhold their number of examples.
    """
    alike = all(client.num_examples is None for client in clients)
    counts = np.array([1 if alike else _examples(client) for client in clients], np.float64)
    lengths, bounded = within_reach(clients, "length", [_length(c) for c in clients], both=True)
    total = float(counts.sum())
    effective = float((counts * lengths).sum()) / total
    return Shares(counts * (effective / lengths), total, bounded)


def _length(client: Contributor) -> float:
    """Return |a_i|₁, the accumulated length of the client's SGD steps (same paper)."""
    check_sgd("fednova needs the length of steps of SGD", client)
    check_every_step("fednova needs the number of steps", client)
    how = "train-client of this version"
    steps, training = recorded_count(client, "steps", how), client.training
    algorithm = ALGORITHMS.get(training.algorithm or "", LocalAlgorithm)
    own = algorithm.proximal_option
    pull = {}
    if training.get(own) is not None:
        pull = {"lr": recorded(client, "lr", how), "proximal": recorded(client, own, how)}
    momentum = recorded(client, "momentum", how, below=1)
    with np.errstate(all="ignore"):
        length = normalized_steps(steps, momentum=momentum, **pull)
    if not 0 < length < TOO_LARGE:
        found = {"steps": steps, "momentum": momentum, **pull}
        raise UpdateError(
            f"fednova divides by the length of the steps, which is {length:g} for "
            + ", ".join(f"{name} {value:g}" for name, value in found.items()),
            path=client.path,
            client=client.name,
        )
    return length


def _by_staleness(clients: Sequence[Contributor], _: Values | None, __: RuleOptions) -> Shares:
    """FedBuff, Nguyen et al. 2022, section 5: 1 / sqrt(1 + staleness), over the number of updates.

    The sum of weights is not normalised: stale updates make the step shorter.
    """
    weights = [1 / math.sqrt(1 + client.staleness) for client in clients]
    return Shares(np.array(weights), float(len(clients)))


WEIGHTINGS: dict[str, Weighting] = {
    "examples": Weighting(
        "a client counts in proportion to its number of examples",
        "McMahan et al. 2017",
        _by_examples,
        of_partials=True,
        multiplies=("num_examples",),
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
        multiplies=("num_examples", "steps"),
    ),
    "staleness": Weighting(
        "1 / sqrt(1 + s) for an update that is s rounds late; late updates count",
        "Nguyen et al. 2022 (FedBuff)",
        _by_staleness,
        {"buffer": None, "max_staleness": 4},
        asynchronous=True,
    ),
}
