"""What a local algorithm is: its row in the list, its options, and what it adds to a training.

A file of this room needs torch only while it trains: aggregation and reports read the rows too.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fedcli.formats.metadata import Role

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RoundStart:
    """What an algorithm knows at the start of a client's round.

    ``lr`` and ``momentum`` are those of the round, ``proximal`` is the μ of a proximal term that
    is added to the algorithm, 0 without one. ``module`` holds the global model. ``shared`` are its
    parameters that are trained and sent, by name. ``kept`` is what the client kept from its last
    round, by tensor name, empty in its first; ``server`` the slot of the server's state that the
    algorithm reads, empty before the server keeps any. ``full_gradient`` returns the gradients of
    the mean loss over all examples at the module's parameters, by the names of ``shared``.
    """

    lr: float
    momentum: float
    proximal: float
    module: "nn.Module"
    shared: Mapping[str, "Tensor"]
    kept: Mapping[str, "Tensor"]
    server: Mapping[str, "Tensor"]
    full_gradient: Callable[[], dict[str, "Tensor"]]

    def initial(self) -> "dict[str, Tensor]":
        """Return a copy of the shared parameters, before any step."""
        return {name: value.detach().clone() for name, value in self.shared.items()}

    def state(self, found: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return a state for every shared parameter: what was found, 0 where there is nothing.

        It is float64 for parameters of float64, else float32, as the server keeps it.
        """
        import torch

        dtypes = {
            name: p.dtype if p.dtype == torch.float64 else torch.float32
            for name, p in self.shared.items()
        }
        return {
            name: found[name].to(dtypes[name])
            if name in found
            else torch.zeros_like(p, dtype=dtypes[name], requires_grad=False)
            for name, p in self.shared.items()
        }


@dataclass(frozen=True)
class Kept:
    """What an algorithm leaves: what the client keeps, and what is sent beside the model."""

    state: "Mapping[str, Tensor]" = field(default_factory=dict)
    sent: "Mapping[str, Tensor]" = field(default_factory=dict)


@dataclass(frozen=True)
class Personal:
    """A model that is trained after the shared one, with its own terms, and stays here."""

    module: "nn.Module"
    term: "Term"


class Term:
    """What an algorithm adds to one client's training in one round; this one adds nothing.

    Several can be added to one training, each seeing the gradients that the one before it made.
    ``gradient`` and ``finish`` are called without autograd.
    """

    def loss(self, logits: "Tensor") -> "Tensor | None":
        """Return a term to add to the mean loss of the batch that was just put through."""
        return None

    def gradient(self, gradients: "list[Tensor]", parameters: "list[Tensor]") -> "list[Tensor]":
        """Return the gradients with those of the algorithm's terms added, in closed form."""
        return gradients

    def personal(self) -> Personal | None:
        """Return a personal model to train after the shared one."""
        return None

    def finish(self, steps: int) -> Kept:
        """Return what is left after ``steps`` steps; the module holds the trained model."""
        return Kept()


@dataclass(frozen=True)
class LocalAlgorithm:
    """A local algorithm with its options, which are the fields of the subclass.

    ``refuses`` are keys of the plan that make no sense with it, and why. One with ``sgd_only``
    reads the gradients off the way that SGD went, one that ``divides_by_length`` divides by the
    normalised number of steps, and one that ``watches_layers`` cannot be compiled. ``strategy`` is
    how its updates are aggregated, which ``needs_strategy`` when the server does the other half of
    the algorithm. ``keeps`` is what it calls the state that a client keeps from round to round,
    which starts anew with another value of an option in ``anew_with``; with ``keeps_layers``,
    layers of the model stay with the client. ``reads`` is the slot of the server's state that
    clients read. ``proximal_option`` is the key of the plan with the μ of its proximal term.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    refuses: ClassVar[Mapping[str, str]] = {}
    strategy: ClassVar[str] = "fedavg"
    needs_strategy: ClassVar[bool] = False
    sgd_only: ClassVar[bool] = False
    divides_by_length: ClassVar[bool] = False
    watches_layers: ClassVar[bool] = False
    keeps: ClassVar[str | None] = None
    keeps_layers: ClassVar[bool] = False
    anew_with: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str | None] = None
    proximal_option: ClassVar[str] = "proximal"

    @property
    def options(self) -> dict[str, Any]:
        """The values of its options, by name."""
        return asdict(self)

    def begin(self, start: RoundStart) -> Term:
        """Return what it adds to a client's training in a round."""
        return Term()

    def local_layers(self, roles: Mapping[str, Role]) -> tuple[str, ...]:
        """Return the layers that stay with the client, by the roles of the model's tensors.

        Raises ``UsageError`` for a model that has none such.
        """
        return ()

    def recorded(self, length: float) -> dict[str, Any]:
        """Return what an update says of its training besides; ``length`` is of its steps."""
        return {}
