"""FedDyn: a linear and a proximal term align the client's optimum with the global one.

Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", algorithm 1. Client k
minimises

    L_k(θ) − ⟨h_k, θ⟩ + α/2 ‖θ − θ_t‖²

and then keeps ``h_k ← h_k − α (θ_k − θ_t)``, which is the gradient of L_k at the minimum. h_k
starts at 0, and is reset if α changes. The server's half is the strategy ``feddyn``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcli.algorithms.base import Kept, LocalAlgorithm, RoundStart, Term
from fedcli.algorithms.fedprox import proximal
from fedcli.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedDyn(LocalAlgorithm):
    """Minimise L_k(θ) − ⟨h_k, θ⟩ + α/2 ‖θ − θ_t‖²."""

    name = "feddyn"
    summary = "a linear and a proximal term align the clients' optima with the global one"
    source = "Acar et al. 2021, algorithm 1"
    refuses: ClassVar[Mapping[str, str]] = {
        "proximal": "has a proximal term already, with --feddyn-alpha"
    }
    strategy = "feddyn"
    needs_strategy = True
    keeps = "dual"
    anew_with = ("feddyn_alpha",)

    feddyn_alpha: float = option(0.01, "Weight α of the dynamic regulariser.", "A", at_least=0)

    def begin(self, start: RoundStart) -> Term:
        """Start from the client's h_k."""
        return DynamicRegularizer(start, self.feddyn_alpha)


class DynamicRegularizer(Term):
    """Adds ``−h_k + α (θ − θ_t)`` to every gradient."""

    def __init__(self, start: RoundStart, alpha: float) -> None:
        self.start = start
        self.alpha = alpha
        self.shared = start.shared
        self.initial = start.initial()
        self.dual = start.state(start.kept)
        self._proximal = proximal(start, self.alpha)
        self._linear = {p: self.dual[name].to(p.dtype) for name, p in start.shared.items()}

    def gradient(self, gradients: "list[Tensor]", parameters: "list[Tensor]") -> "list[Tensor]":
        """Add the gradient of both terms."""
        linear = [
            gradient - self._linear[parameter] if parameter in self._linear else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
        return self._proximal.gradient(linear, parameters)

    def finish(self, steps: int) -> Kept:
        """Keep the new ``h_k``."""
        before, now = (self.start.state(values) for values in (self.initial, self.shared))
        return Kept({n: self.dual[n] - self.alpha * (now[n] - before[n]) for n in now})
