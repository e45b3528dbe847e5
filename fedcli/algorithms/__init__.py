"""Local algorithms by name: how a client trains the model of the round.

Each algorithm has one file with its row, its options, its mathematics and its state, and one line
in ``ALGORITHMS``.
"""

from collections.abc import Iterator

from fedcli.algorithms.base import LocalAlgorithm
from fedcli.algorithms.ditto import Ditto
from fedcli.algorithms.fedavg import FedAvg
from fedcli.algorithms.fedbn import FedBN
from fedcli.algorithms.feddyn import FedDyn
from fedcli.algorithms.fednova import FedNova
from fedcli.algorithms.fedprox import FedProx, proximal
from fedcli.algorithms.moon import Moon
from fedcli.algorithms.scaffold import Scaffold
from fedcli.options import Declared, declared

__all__ = ["ALGORITHMS", "LocalAlgorithm", "owners_of", "proximal"]

ALGORITHMS: dict[str, type[LocalAlgorithm]] = {
    row.name: row for row in (FedAvg, FedProx, Scaffold, FedNova, FedBN, FedDyn, Moon, Ditto)
}


def owners_of(option: str) -> Iterator[tuple[str, Declared]]:
    """Yield the algorithms that have an option, with each one's declaration of it."""
    for name, row in ALGORITHMS.items():
        if option in declared(row):
            yield name, declared(row)[option]
