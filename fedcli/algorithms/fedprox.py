"""FedProx: a proximal term keeps the local model near the global one.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks", equation 2: client k minimises

    h_k(w; w_t) = F_k(w) + μ/2 ‖w − w_t‖²

with the squared norm, so that the term's gradient is ``μ (w − w_t)``. It covers the parameters
that are trained and sent; the others have no global counterpart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcli.algorithms.base import LocalAlgorithm, RoundStart, Term
from fedcli.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedProx(LocalAlgorithm):
    """Minimise F_k(w) + μ/2 ‖w − w_t‖²."""

    name = "fedprox"
    summary = "a proximal term keeps the model near the global one"
    source = "Li et al. 2020 (FedProx), equation 2"
    refuses: ClassVar[Mapping[str, str]] = {"proximal": "has this term already, with --mu"}
    proximal_option = "mu"

    mu: float = option(0.01, "Weight of the proximal term.", "MU", at_least=0)

    def begin(self, start: RoundStart) -> Term:
        """Keep the model near the global one."""
        return proximal(start, self.mu)


class Proximal(Term):
    """Adds ``μ/2 ‖w − center‖²`` over ``parameters``, where ``center`` has one value for each."""

    def __init__(
        self, mu: float, parameters: "Iterable[Tensor]", center: "Iterable[Tensor]"
    ) -> None:
        self.mu = mu
        self.center = {
            parameter: value.detach().clone()
            for parameter, value in zip(parameters, center, strict=True)
        }

    def gradient(self, gradients: "list[Tensor]", parameters: "list[Tensor]") -> "list[Tensor]":
        """Add ``μ (w − center)``."""
        if not self.mu:
            return gradients
        return [
            gradient.add(parameter - self.center[parameter], alpha=self.mu)
            if parameter in self.center
            else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]


def proximal(start: RoundStart, mu: float) -> Proximal:
    """Return a term that keeps the model near the global one; it works with other terms."""
    return Proximal(mu, start.shared.values(), start.shared.values())
