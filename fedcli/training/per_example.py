"""The gradients of single examples, each clipped to a norm, and their sum.

By ``torch.func``, which computes every example as if it were alone: nothing in a network can mix
them. ``fedcli.training.layerwise`` is faster for networks of which the layers are known.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from fedcli.errors import UsageError
from fedcli.text import brief
from fedcli.training.augmentation import channels_last

_MOST_VALUES = {"cpu": 2**24}  # of gradients at a time; a GPU has no cache to stay in
_MOST_ON_GPU = 2**28
# Words of torch.func about what it cannot take apart, and of modules about what it does to them.
_REFUSALS = ("vmap", "transform", "nn.Parameter")


class ClippedSum(NamedTuple):
    """Σ gᵢ min(1, C/‖gᵢ‖) by parameter, Σ losses and the number of correct predictions.

    An example whose loss or gradient is not finite is not in them.
    """

    gradients: list[Tensor]
    loss: Tensor
    correct: Tensor

    def plus(self, other: "ClippedSum") -> "ClippedSum":
        """Return the sum over the examples of both."""
        gradients = list(torch._foreach_add(self.gradients, other.gradients))
        return ClippedSum(gradients, self.loss + other.loss, self.correct + other.correct)


class Contributions(ABC):
    """What each of some examples contributes: its loss (N,), logits (N, K) and gradient's norm."""

    def __init__(self, losses: Tensor, logits: Tensor, norms: Tensor) -> None:
        self.losses = losses
        self.logits = logits
        self.norms = norms

    @abstractmethod
    def weighted(self, factors: Tensor) -> list[Tensor]:
        """Return the sum of the gradients, each times its factor, by parameter."""


class PerExample(ABC):
    """Computes clipped sums for a network; ``smoothing`` is that of labels."""

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor], smoothing: float) -> None:
        self.module = module
        self.parameters = list(parameters)
        self.smoothing = smoothing

    @property
    def most(self) -> int:
        """The largest number of examples to compute at a time."""
        return 2**31

    @abstractmethod
    def contributions(self, inputs: Tensor, labels: Tensor) -> Contributions:
        """Compute some examples; inputs are (N, ...), N ≥ 1, labels int64 (N,)."""

    def clipped_sum(self, inputs: Tensor, labels: Tensor, clip: float) -> ClippedSum:
        """Return the sum over some examples, each clipped to the norm C over all parameters."""
        if not len(labels):
            zero = torch.zeros((), device=labels.device)
            return ClippedSum([torch.zeros_like(p) for p in self.parameters], zero, zero.long())
        found = self.contributions(inputs, labels)
        finite = torch.isfinite(found.norms) & torch.isfinite(found.losses)
        if not bool(finite.all()):  # a factor of 0 would not remove them: 0 · ∞ is not 0
            return self.clipped_sum(channels_last(inputs[finite]), labels[finite], clip)
        factors = (clip / found.norms.clamp(min=torch.finfo(found.norms.dtype).tiny)).clamp(max=1)
        dtype = self.parameters[0].dtype
        correct = (found.logits.argmax(1) == labels).sum()
        return ClippedSum(found.weighted(factors.to(dtype)), found.losses.sum(), correct)


def exact(device: torch.device) -> torch.dtype:
    """Return the most exact floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def full(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least, whatever autocast made of it."""
    return x if x.dtype == torch.float64 else x.float()


def norms_of(gradients: Tensor) -> Tensor:
    """Return the norm of each example's gradient (N, ...), (N,).

    A row is summed in its own precision, which reads it once, and all rows in a higher one. The
    norm is infinite if the squares of a row are.
    """
    rows = gradients[:, None] if gradients.dim() == 2 else gradients.flatten(2)
    found: Tensor = torch.linalg.vector_norm(
        torch.linalg.vector_norm(rows, dim=2).to(exact(rows.device)), dim=1
    )
    return found


def sum_of(gradients: Tensor, factors: Tensor) -> Tensor:
    """Return Σ fᵢ gᵢ of gradients (N, ...)."""
    found: Tensor = torch.tensordot(factors, gradients, 1)
    return found


class _Stacked(Contributions):
    """Gradients (N, ...) by parameter."""

    def __init__(self, losses: Tensor, logits: Tensor, gradients: list[Tensor]) -> None:
        squares = [norms_of(gradient).square() for gradient in gradients]
        super().__init__(losses, logits, torch.stack(squares).sum(0).sqrt())
        self.gradients = gradients

    def weighted(self, factors: Tensor) -> list[Tensor]:
        return [sum_of(gradient, factors) for gradient in self.gradients]


class Functional(PerExample):
    """Computes every example as a batch of one, by ``vmap`` over ``functional_call``."""

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor], smoothing: float) -> None:
        super().__init__(module, parameters, smoothing)
        names = {id(value): name for name, value in module.named_parameters()}
        self._values = {names[id(p)]: p.detach() for p in self.parameters}
        self._gradients: Callable[..., Any] = vmap(
            grad_and_value(self._loss, has_aux=True), in_dims=(None, 0, 0), randomness="different"
        )

    @property
    def most(self) -> int:
        """The largest number of examples whose gradients are held at a time."""
        each = sum(p.numel() for p in self.parameters)
        values = _MOST_VALUES.get(self.parameters[0].device.type, _MOST_ON_GPU)
        return max(1, values // max(1, each))

    def contributions(self, inputs: Tensor, labels: Tensor) -> Contributions:
        """Compute some examples. Raises ``UsageError`` for a network that mixes them."""
        versions = [(name, b, b._version) for name, b in self.module.named_buffers()]
        try:
            found, (losses, logits) = self._gradients(self._values, inputs, labels)
        except (RuntimeError, AttributeError) as error:
            if not any(word in str(error) for word in _REFUSALS):
                raise
            raise _mixes(brief(str(error).splitlines()[0])) from error
        for name, buffer, version in versions:
            if buffer._version != version:
                raise _mixes(f"its buffer {name!r} changes with the data, and gets no noise")
        gradients = [found[name].contiguous() for name in self._values]
        return _Stacked(losses.detach(), logits.detach(), gradients)

    def _loss(self, values: dict[str, Tensor], x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = full(functional_call(self.module, values, (x[None],)))
        loss = F.cross_entropy(logits, label[None], label_smoothing=self.smoothing)
        return loss, logits[0]


def _mixes(reason: str) -> UsageError:
    return UsageError(
        f"--dp example: the model cannot be computed one example at a time: {reason}",
        hint="use a run with --norm group, or freeze the layers that do this with --freeze",
    )
