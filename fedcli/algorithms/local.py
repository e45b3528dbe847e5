"""The local algorithms as code: for each name of ``ALGORITHMS``, how it starts a client's round."""

from collections.abc import Callable

from fedcli.algorithms.base import LocalAlgorithm, Start
from fedcli.algorithms.ditto import Ditto
from fedcli.algorithms.feddyn import FedDyn
from fedcli.algorithms.fedprox import fedprox, proximal
from fedcli.algorithms.moon import Moon
from fedcli.algorithms.scaffold import Scaffold


def fedavg(start: Start) -> LocalAlgorithm:
    """Add nothing: FedNova and FedBN differ from FedAvg in what is done with the model after."""
    return LocalAlgorithm()


LOCAL: dict[str, Callable[[Start], LocalAlgorithm]] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "scaffold": Scaffold,
    "fednova": fedavg,
    "fedbn": fedavg,
    "feddyn": FedDyn,
    "moon": Moon,
    "ditto": Ditto,
}


def begin(start: Start) -> list[LocalAlgorithm]:
    """Return the plan's algorithm, and the proximal term that the plan adds to it."""
    algorithms = [LOCAL[start.plan.algorithm](start)]
    if start.plan.proximal:
        algorithms.append(proximal(start, start.plan.proximal))
    return algorithms
