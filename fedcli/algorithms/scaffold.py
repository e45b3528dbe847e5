"""SCAFFOLD: control variates correct each local step for client drift.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
algorithm 1. With the server's c and the client's c_i, both 0 at the start, a local step is

    y ← y − η (g_i(y) − c_i + c)

After K steps from x, the client keeps c_i⁺ (option I or II) and sends Δc_i:

    c_i⁺ = g_i(x)    or    c_i⁺ = c_i − c + (x − y) / (K η),        Δc_i = c_i⁺ − c_i

g_i is the gradient of the client's mean loss, without a proximal term, which is 0 at x. Option I
computes it over all of the client's examples, without weight decay, whose gradient is the same at
all clients. In option II, K is the normalised number of steps: with momentum, K equal gradients
move the model further than K η, and with a proximal term less far.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcli.algorithms.base import Kept, LocalAlgorithm, RoundStart, Term
from fedcli.algorithms.lengths import normalized_steps
from fedcli.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scaffold(LocalAlgorithm):
    """Correct each step by c − c_i."""

    name = "scaffold"
    summary = "control variates correct each step for client drift"
    source = "Karimireddy et al. 2020, algorithm 1"
    strategy = "scaffold"
    needs_strategy = True
    sgd_only = True
    divides_by_length = True
    keeps = "control"
    reads = "control"

    scaffold_option: int = option(
        2,
        "How a control variate is computed: from the gradient at the start (1), or from the"
        " steps taken (2).",
        "N",
        choices=(1, 2),
    )

    @property
    def exposes_examples(self) -> str:
        """With option 1 it sends the gradient of all of them."""
        return "sends the gradient of all examples" if self.scaffold_option == 1 else ""

    def begin(self, start: RoundStart) -> Term:
        """Start from the control variates of the client and the server."""
        return ControlVariates(start, from_start=self.scaffold_option == 1)


class ControlVariates(Term):
    """Adds ``c − c_i`` to every gradient; c_i is the mean gradient of the client's last round."""

    def __init__(self, start: RoundStart, *, from_start: bool) -> None:
        self.start = start
        self.own = start.state(start.kept)
        self.server = start.state(start.server)
        self.initial = start.initial()
        self.at_start = start.full_gradient() if from_start else None
        self._drift = {
            p: (self.own[name] - self.server[name]).to(p.dtype) for name, p in start.shared.items()
        }

    def gradient(self, gradients: "list[Tensor]", parameters: "list[Tensor]") -> "list[Tensor]":
        """Subtract ``c_i − c``."""
        return [
            gradient - self._drift[parameter] if parameter in self._drift else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]

    def finish(self, steps: int) -> Kept:
        """Keep ``c_i⁺`` and send ``Δc_i``."""
        new = self._from_way(steps) if self.at_start is None else self.start.state(self.at_start)
        return Kept(new, {f"control/{name}": new[name] - self.own[name] for name in new})

    def _from_way(self, steps: int) -> "dict[str, Tensor]":
        lr, momentum = self.start.lr, self.start.momentum
        length = lr * normalized_steps(
            steps, momentum=momentum, lr=lr, proximal=self.start.proximal
        )
        # In the precision of the state, because bfloat16 is too coarse for the difference.
        before, now = (self.start.state(values) for values in (self.initial, self.start.shared))
        return {
            name: self.own[name] - self.server[name] + (before[name] - now[name]) / length
            for name in now
        }
