"""FedDyn: a linear and a proximal term align the client's optimum with the global one.

Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", algorithm 1. Client k
minimises

    L_k(θ) − ⟨h_k, θ⟩ + α/2 ‖θ − θ_t‖²

and then keeps ``h_k ← h_k − α (θ_k − θ_t)``, which is the gradient of L_k at the minimum. h_k is 0
at the start, and again with another α. The server's half is the strategy ``feddyn``.
"""

import torch
from torch import Tensor

from fedcli.algorithms.base import Kept, LocalAlgorithm, Start
from fedcli.algorithms.fedprox import proximal


class FedDyn(LocalAlgorithm):
    """Adds ``−h_k + α (θ − θ_t)`` to every gradient."""

    def __init__(self, start: Start) -> None:
        assert start.plan.feddyn_alpha is not None
        self.start = start
        self.alpha = start.plan.feddyn_alpha
        self.shared = start.shared
        self.initial = start.initial()
        self.dual = start.state(start.kept)
        self._proximal = proximal(start, self.alpha)
        self._linear = {p: self.dual[name].to(p.dtype) for name, p in start.shared.items()}

    @torch.no_grad()
    def gradient(self, gradients: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        """Add the gradient of both terms."""
        linear = [
            gradient - self._linear[parameter] if parameter in self._linear else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
        return self._proximal.gradient(linear, parameters)

    @torch.no_grad()
    def finish(self, steps: int) -> Kept:
        """Keep the new ``h_k``."""
        before, now = (self.start.state(values) for values in (self.initial, self.shared))
        return Kept({n: self.dual[n] - self.alpha * (now[n] - before[n]) for n in now})
