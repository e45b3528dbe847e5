"""Local algorithms, by name: what a client does with the model of the round.

This is the catalogue, which needs no torch. What an algorithm adds to local training is in the
module of its name; ``fedcli.algorithms.local`` maps one to the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A row of ``ALGORITHMS``.

    ``options`` are its own keys of ``TrainPlan``, with their defaults; ``refuses`` are keys that
    make no sense with it, and why. One with ``sgd_only`` reads the gradients off the way that SGD
    went. ``strategy`` is how its updates are aggregated, which ``needs_strategy`` when the server
    does the other half of the algorithm. ``keeps`` is what it calls the state that a client keeps
    from round to round, which starts anew with another value of a key of ``anew_with``; ``reads``
    is the slot of the server's state that clients read.
    """

    summary: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    strategy: str = "fedavg"
    needs_strategy: bool = False
    sgd_only: bool = False
    keeps: str | None = None
    anew_with: tuple[str, ...] = ()
    reads: str | None = None


ALGORITHMS: dict[str, Algorithm] = {
    "fedavg": Algorithm("local steps, nothing else", "McMahan et al. 2017, algorithm 1"),
    "fedprox": Algorithm(
        "a proximal term keeps the model near the global one",
        "Li et al. 2020 (FedProx), equation 2",
        {"mu": 0.01},
        {"proximal": "has this term already, with --mu"},
    ),
    "scaffold": Algorithm(
        "control variates correct each step for the drift of the client",
        "Karimireddy et al. 2020, algorithm 1",
        {"scaffold_option": 2},
        strategy="scaffold",
        needs_strategy=True,
        sgd_only=True,
        keeps="control",
        reads="control",
    ),
    "fednova": Algorithm(
        "updates are divided by the length of their local steps",
        "Wang et al. 2020 (FedNova), section 4",
        strategy="fednova",
        sgd_only=True,
    ),
    "fedbn": Algorithm(
        "batch normalisation stays with the client", "Li et al. 2021 (FedBN), algorithm 1"
    ),
    "feddyn": Algorithm(
        "a linear and a proximal term align the clients' optima with the global one",
        "Acar et al. 2021, algorithm 1",
        {"feddyn_alpha": 0.01},
        {"proximal": "has a proximal term already, with --feddyn-alpha"},
        strategy="feddyn",
        needs_strategy=True,
        keeps="dual",
        anew_with=("feddyn_alpha",),
    ),
    "moon": Algorithm(
        "features stay near those of the global model, away from the client's last one",
        "Li et al. 2021 (MOON), equation 3",
        {"mu": 1.0, "temperature": 0.5},
        {"local_layers": "compares whole models, which are then not the same at all clients"},
        keeps="previous",
    ),
    "ditto": Algorithm(
        "a personal model beside the shared one, drawn towards it",
        "Li et al. 2021 (Ditto), algorithm 1",
        {"ditto_lambda": 0.1},
        {"local_layers": "keeps a whole model with the client"},
        keeps="personal",
    ),
}
OPTIONS = tuple(dict.fromkeys(name for row in ALGORITHMS.values() for name in row.options))
