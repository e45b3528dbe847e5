"""MOON: model-contrastive learning.

Li et al. 2021, "Model-Contrastive Federated Learning", equations 2 and 3. Let z, z_glob and z_prev
be the features of an example in the local model, the global model of the round and the client's
model of its last round, and let sim be the cosine similarity. Client k minimises

    F_k(w) + μ mean( −log( e^{sim(z, z_glob)/τ} / (e^{sim(z, z_glob)/τ} + e^{sim(z, z_prev)/τ}) ) )

Features are the inputs of the last linear layer; the paper's networks have a projection head
before it, which a user's own model can have too. z_glob and z_prev are computed in evaluation
mode. In a client's first round z_prev would equal z_glob, so the term, a constant log 2, is
omitted.
"""

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

    @property
    def exposes_examples(self) -> str:
        """It does."""
        return "compares features of the examples with those of other models"

    def begin(self, start: RoundStart) -> Term:
        """Compare with the global model and the client's last model."""
        return Contrastive(start, self.mu, self.temperature)


class Contrastive(Term):
    """Adds the contrastive term through autograd; the two old models stay unchanged."""

    def __init__(self, start: RoundStart, mu: float, temperature: float) -> None:
        self.mu, self.temperature = mu, temperature
        self.module = start.module
        self.others: list[Features] = []
        if start.kept and self.mu:
            old = [_frozen(start.copied()) for _ in ("global", "previous")]
            old[1].load_state_dict(dict(start.kept))
            self.others = [Features(module) for module in old]
        self.features = Features(start.module)

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
        """Keep the trained model for the comparison in the next round."""
        self.features.forget()
        return Kept({k: v.detach().clone() for k, v in self.module.state_dict().items()})


class Features:
    """Records the inputs of a model and of its last linear layer."""

    def __init__(self, module: "nn.Module") -> None:
        import torch
        from torch import nn

        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UsageError(
                "--algorithm moon: compares inputs of the last linear layer, and the model has none"
            )
        self.module = module
        self.inputs = self.last = self._nothing = torch.empty(0)
        self._hooks = [module.register_forward_pre_hook(self._given)]
        # The order of calls decides which layer is the last.
        self._hooks += [
            layer.register_forward_pre_hook(self._at_linear, with_kwargs=True) for layer in layers
        ]

    def _given(self, _: "nn.Module", arguments: "tuple[Tensor]") -> None:
        self.inputs = arguments[0]
        self.last = self._nothing  # frees the activations of a batch that did not fit

    def _at_linear(
        self, _: "nn.Module", arguments: "tuple[Tensor, ...]", named: "Mapping[str, Tensor]"
    ) -> None:
        self.last = (arguments[0] if arguments else named["input"]).flatten(1)

    def of(self, inputs: "Tensor") -> "Tensor":
        """Return the features of a batch."""
        self.module(inputs)
        return self.last

    def forget(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()


def _frozen(module: "nn.Module") -> "nn.Module":
    return module.requires_grad_(False).eval()
