"""FedProx: a proximal term keeps the local model near the global one.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks", equation 2: client k minimises

    h_k(w; w_t) = F_k(w) + μ/2 ‖w − w_t‖²

with the squared norm, so that the term's gradient is ``μ (w − w_t)``. It is over the parameters
that are trained and sent: for others there is no global model to be near to.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fedcli.algorithms.base import LocalAlgorithm, Start


class Proximal(LocalAlgorithm):
    """Adds ``μ/2 ‖w − center‖²`` over the parameters that ``center`` goes with."""

    def __init__(self, mu: float, parameters: Iterable[Tensor], center: Iterable[Tensor]) -> None:
        self.mu = mu
        self.center = {
            parameter: value.detach().clone()
            for parameter, value in zip(parameters, center, strict=True)
        }

    @torch.no_grad()
    def gradient(self, gradients: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        """Add ``μ (w − center)``."""
        if not self.mu:
            return gradients
        return [
            torch.add(gradient, parameter - self.center[parameter], alpha=self.mu)
            if parameter in self.center
            else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]


def fedprox(start: Start) -> Proximal:
    """Keep the model near the global one, with the plan's ``mu``."""
    assert start.plan.mu is not None
    return proximal(start, start.plan.mu)


def proximal(start: Start, mu: float) -> Proximal:
    """Keep the model near the global one, beside whatever else an algorithm adds."""
    return Proximal(mu, start.shared.values(), start.shared.values())
