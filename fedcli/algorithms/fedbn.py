"""FedBN: batch normalisation stays with the client.

Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.algorithms.base import LocalAlgorithm
from fedcli.errors import UsageError
from fedcli.formats.metadata import Role

_BUFFER = ".running_mean"


@dataclass(frozen=True)
class FedBN(LocalAlgorithm):
    """Minimise F_k(w), and send no batch normalisation layers."""

    name = "fedbn"
    summary = "batch normalisation stays with the client"
    source = "Li et al. 2021 (FedBN), algorithm 1"
    keeps_layers = True

    def local_layers(self, roles: Mapping[str, Role]) -> tuple[str, ...]:
        """Return the layers with running statistics.

        They are recognised by buffer names, which are those of ``torch.nn.BatchNorm2d``.
        """
        layers = sorted(n.removesuffix(_BUFFER) for n in roles if n.endswith(_BUFFER))
        if not layers:
            raise UsageError("--algorithm fedbn: the model has no batch normalisation")
        return tuple(layers)
