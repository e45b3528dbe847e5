"""MOON: model-contrastive learning.

Li et al. 2021, "Model-Contrastive Federated Learning", equations 2 and 3. With z, z_glob and
z_prev the features of an example under the local model, the global model of the round and the
client's model of its last round, and sim the cosine similarity, client k minimises

    F_k(w) + μ mean( −log( e^{sim(z, z_glob)/τ} / (e^{sim(z, z_glob)/τ} + e^{sim(z, z_prev)/τ}) ) )

Features are what the last linear layer is given; the paper's networks have a projection head
before it, which a model of one's own can bring. z_glob and z_prev are taken in evaluation mode. In
a client's first round z_prev would be z_glob, and the term log 2: it is left out.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcli.algorithms.base import Kept, LocalAlgorithm, RoundStart, Term
from fedcli.errors import UsageError
from fedcli.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Moon(LocalAlgorithm):
    """Minimise F_k(w) + μ times the contrastive term."""

    name = "moon"
    summary = "features stay near those of the global model, away from the client's last one"
    source = "Li et al. 2021 (MOON), equation 3"
    refuses: ClassVar[Mapping[str, str]] = {
        "local_layers": "compares whole models, which are then not the same at all clients"
    }
    watches_layers = True
    keeps = "previous"

    mu: float = option(1.0, "Weight of the contrastive term.", "MU", at_least=0)
    temperature: float = option(0.5, "Temperature τ of the contrastive term.", "T", above=0)

    def begin(self, start: RoundStart) -> Term:
        """Compare with the global model and the client's last one."""
        return Contrastive(start, self.mu, self.temperature)


class Contrastive(Term):
    """Adds the contrastive term through autograd; the two old models are left as they are."""

    def __init__(self, start: RoundStart, mu: float, temperature: float) -> None:
        self.mu, self.temperature = mu, temperature
        self.module = start.module
        self.others: list[Features] = []
        if start.kept and self.mu:
            old = [_frozen(start.module) for _ in ("global", "previous")]
            old[1].load_state_dict(dict(start.kept))
            self.others = [Features(module) for module in old]
        self.features = Features(start.module)  # a copy of a watched module would be watched too

    def loss(self, logits: "Tensor") -> "Tensor | None":
        """Return μ times the contrastive term of the batch."""
        if not self.others:
            return None
        import torch
        import torch.nn.functional as F

        inputs, z = self.features.inputs, self.features.last
        with torch.no_grad():
            others = [other.of(inputs) for other in self.others]
        similar = torch.stack([F.cosine_similarity(z, other) for other in others], dim=1)
        near = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        return self.mu * F.cross_entropy(similar.float() / self.temperature, near)

    def finish(self, steps: int) -> Kept:
        """Keep the trained model, to be told apart from in the next round."""
        self.features.forget()
        return Kept({k: v.detach().clone() for k, v in self.module.state_dict().items()})


class Features:
    """Watches what a model and its last linear layer are given."""

    def __init__(self, module: "nn.Module") -> None:
        import torch
        from torch import nn

        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UsageError(
                "--algorithm moon: compares what the last linear layer is given, and there is none"
            )
        self.module = module
        self.inputs = self.last = self._nothing = torch.empty(0)
        self._hooks = [module.register_forward_pre_hook(self._given)]
        # which of them is the last is seen when they are called
        self._hooks += [layer.register_forward_pre_hook(self._at_linear) for layer in layers]

    def _given(self, _: "nn.Module", arguments: "tuple[Tensor]") -> None:
        self.inputs = arguments[0]
        self.last = self._nothing  # lets go of the activations of a batch that did not fit

    def _at_linear(self, _: "nn.Module", arguments: "tuple[Tensor]") -> None:
        self.last = arguments[0].flatten(1)

    def of(self, inputs: "Tensor") -> "Tensor":
        """Return the features of a batch."""
        self.module(inputs)
        return self.last

    def forget(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()


def _frozen(module: "nn.Module") -> "nn.Module":
    return copy.deepcopy(module).requires_grad_(False).eval()
