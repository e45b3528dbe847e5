"""FedAvg: K local steps from the global model on the client's mean loss ``F_k(w)``.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
algorithm 1.
"""

from dataclasses import dataclass

from fedcli.algorithms.base import LocalAlgorithm


@dataclass(frozen=True)
class FedAvg(LocalAlgorithm):
    """Minimise F_k(w)."""

    name = "fedavg"
    summary = "local steps, nothing else"
    source = "McMahan et al. 2017, algorithm 1"
