"""The interface of a local algorithm: its row, its options, and its terms during training.

Files of this room import torch only during training: aggregation and reports read the rows too.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RoundStart:
    """What an algorithm knows at the start of a client's round.

    ``lr`` and ``momentum`` are those of the round; ``proximal`` is the μ of an additional proximal
    term, 0 without one. ``module`` holds the global model, and ``shared`` its parameters that are
    trained and sent, by name. ``kept`` is the client's state from its last round, by tensor name,
    empty in the first; ``server`` is the slot of the server's state that the algorithm reads,
    empty before the server has any. ``full_gradient`` returns the gradients of the mean loss over
    all examples at the module's parameters, by the names of ``shared``. ``copied`` returns a copy
    of the module.
    """

    lr: float
    momentum: float
    proximal: float
    module: "nn.Module"
    shared: Mapping[str, "Tensor"]
    kept: Mapping[str, "Tensor"]
    server: Mapping[str, "Tensor"]
    full_gradient: Callable[[], dict[str, "Tensor"]]
    copied: Callable[[], "nn.Module"]

    def initial(self) -> "dict[str, Tensor]":
        """Return a copy of the shared parameters, before any step."""
        return {name: value.detach().clone() for name, value in self.shared.items()}

    def state(self, found: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return a state for every shared parameter: its tensor in ``found``, or zeros.

        States are float64 for float64 parameters, else float32, as on the server.
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
    """An algorithm's results: the client's new state, and tensors to send with the model."""

    state: "Mapping[str, Tensor]" = field(default_factory=dict)
    sent: "Mapping[str, Tensor]" = field(default_factory=dict)


@dataclass(frozen=True)
class Personal:
    """A model that is trained after the shared one, with its own term, and never sent."""

    module: "nn.Module"
    term: "Term"


class Term:
    """A term that an algorithm adds to a client's training in a round; this one adds nothing.

    A training can have several terms; each gets the gradients of the previous one. ``gradient``
    and ``finish`` are called without autograd.
    """

    def loss(self, logits: "Tensor") -> "Tensor | None":
        """Return a term to add to the mean loss of the batch of the last forward pass."""
        return None

    def gradient(self, gradients: "list[Tensor]", parameters: "list[Tensor]") -> "list[Tensor]":
        """Return the gradients plus the gradient of the term in closed form."""
        return gradients

    def personal(self) -> Personal | None:
        """Return a personal model to train after the shared one."""
        return None

    def finish(self, steps: int) -> Kept:
        """Return the results after ``steps`` steps; the module holds the trained model."""
        return Kept()


@dataclass(frozen=True)
class LocalAlgorithm:
    """A local algorithm with its options, which are the fields of the subclass.

    ``refuses`` maps plan keys that make no sense with it to the reason. With ``sgd_only``, it
    derives gradients from the steps of SGD; with ``divides_by_length``, it divides by the
    normalised number of steps; with ``watches_layers``, the network cannot be compiled.
    ``strategy`` is the default way to aggregate its updates, and ``needs_strategy`` makes it
    mandatory because the server does half of the algorithm. ``keeps`` names the state that a
    client keeps from round to round, which is reset when an option in ``reset_by`` changes; with
    ``keeps_layers``, layers of the model stay with the client. ``reads`` is the slot of the
    server's state that clients read. ``proximal_option`` is the plan key of the μ of its proximal
    term.
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
    reset_by: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str | None] = None
    proximal_option: ClassVar[str] = "proximal"

    @property
    def exposes_examples(self) -> str:
        """How it uses examples other than by the gradients of its steps; "" if it does not."""
        return ""

    @property
    def options(self) -> dict[str, Any]:
        """The values of its options, by name."""
        return asdict(self)

    def begin(self, start: RoundStart) -> Term:
        """Return its term for a client's training in a round."""
        return Term()

    def local_layers(self, module: "nn.Module") -> tuple[str, ...]:
        """Return the layers of a network that stay with the client.

        Raises ``UsageError`` for a model without such layers.
        """
        return ()

    def recorded(self, length: float) -> dict[str, Any]:
        """Return additional facts that an update records; ``length`` is that of its steps."""
        return {}
