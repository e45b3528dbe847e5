"""What a local algorithm is given, what it may add to a step, and what it leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedcli.plan import TrainPlan


@dataclass(frozen=True)
class Start:
    """What an algorithm knows at the start of a client's round.

    ``module`` holds the global model. ``shared`` are its parameters that are trained and sent, by
    name. ``kept`` is what the client kept from its last round, by tensor name, empty in its first;
    ``server`` the slot of the server's state that the algorithm reads, empty before the server
    keeps any. ``full_gradient`` returns the gradients of the mean loss over all examples at the
    module's parameters, by the names of ``shared``.
    """

    plan: TrainPlan
    lr: float
    module: nn.Module
    shared: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]
    server: Mapping[str, Tensor]
    full_gradient: Callable[[], dict[str, Tensor]]

    def initial(self) -> dict[str, Tensor]:
        """Return a copy of the shared parameters, before any step."""
        return {name: value.detach().clone() for name, value in self.shared.items()}

    def state(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state for every shared parameter: what was found, 0 where there is nothing.

        It is float64 for parameters of float64, else float32, as the server keeps it.
        """
        return {
            name: found[name].to(_state_dtype(p))
            if name in found
            else torch.zeros_like(p, dtype=_state_dtype(p), requires_grad=False)
            for name, p in self.shared.items()
        }


def _state_dtype(parameter: Tensor) -> torch.dtype:
    return parameter.dtype if parameter.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Kept:
    """What an algorithm leaves: what the client keeps, and what is sent beside the model."""

    state: Mapping[str, Tensor] = field(default_factory=dict)
    sent: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Personal:
    """A model that is trained after the shared one, with its own terms, and stays here."""

    module: nn.Module
    term: "LocalAlgorithm"


class LocalAlgorithm:
    """FedAvg: K steps on the client's mean loss ``F_k(w)``, from the global model.

    McMahan et al. 2017, algorithm 1. Other algorithms say what they add; several can be added
    to one training, each seeing the gradients that the one before it made.
    """

    def loss(self, logits: Tensor) -> Tensor | None:
        """Return a term to add to the mean loss of the batch that was just put through."""
        return None

    def gradient(self, gradients: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        """Return the gradients with those of the algorithm's terms added, in closed form."""
        return gradients

    def personal(self) -> Personal | None:
        """Return a personal model to train after the shared one."""
        return None

    def finish(self, steps: int) -> Kept:
        """Return what is left after ``steps`` steps; the module holds the trained model."""
        return Kept()
