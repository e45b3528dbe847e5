"""FedBN: batch normalisation stays with the client.

Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
algorithm 1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcli.algorithms.base import LocalAlgorithm
from fedcli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FedBN(LocalAlgorithm):
    """Minimise F_k(w), and send no batch normalisation layers."""

    name = "fedbn"
    summary = "batch normalisation stays with the client"
    source = "Li et al. 2021 (FedBN), algorithm 1"
    keeps_layers = True

    def local_layers(self, module: "nn.Module") -> tuple[str, ...]:
        """Return the layers of torch's BatchNorm classes, with or without running statistics."""
        from torch.nn.modules.batchnorm import _BatchNorm

        layers = sorted(
            name
            for name, layer in module.named_modules(remove_duplicate=False)
            if isinstance(layer, _BatchNorm) and layer.state_dict()
        )
        if not layers:
            raise UsageError("--algorithm fedbn: the model has no batch normalisation")
        return tuple(layers)
