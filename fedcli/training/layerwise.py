"""Clipped sums from the inputs and the output gradients of layers, in one backward pass.

The gradient of a linear layer is a sum of outer products g aᵀ over positions. For one position its
norm is ‖g‖‖a‖ (Goodfellow 2015), for few it follows from the Gram matrices of both, and the sum
over examples is a single product of matrices (Bu et al. 2022 and 2023). For many positions the
gradients of single examples are smaller than their Gram matrices, and are computed. Nothing here
checks that a network keeps its examples apart, so that only networks of fedcli are computed so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fedcli.models.convolution import Conv2d
from fedcli.models.resnet import ResNet18
from fedcli.models.small import CNN, Linear
from fedcli.training.per_example import Contributions, PerExample, exact, full, norms_of, sum_of

_NETWORKS = (CNN, Linear, ResNet18)
_LINEAR = (nn.Linear, nn.Conv2d, Conv2d)
_FEW = 4  # positions
# The least norm in units of ‖g‖‖a‖. Below, products cancel, and the rounding of their sum over
# examples could exceed what it was clipped to.
_LEAST = 1e-3


class _Call(NamedTuple):
    """A call of a layer: its input, and where the gradient of its output arrives."""

    layer: nn.Module
    x: Tensor
    edge: GradientEdge


class _Outer(NamedTuple):
    """Σₜ gₜ aₜᵀ of every example: a is (N, T, D), g is (N, T, P)."""

    a: Tensor
    g: Tensor

    def squares(self) -> Tensor:
        """Return the squared norms (N,), or larger ones where products cancel."""
        a, g = (one.to(exact(one.device)) for one in self)
        bound = a.square().sum((1, 2)) * g.square().sum((1, 2))
        if self.a.shape[1] == 1:
            return bound
        gram = (a @ a.transpose(1, 2)) * (g @ g.transpose(1, 2))
        return torch.maximum(gram.sum((1, 2)), bound * _LEAST**2)

    def weighted(self, factors: Tensor) -> Tensor:
        """Return Σᵢ fᵢ Σₜ gₜ aₜᵀ, (P, D)."""
        return torch.mm((self.g * factors[:, None, None]).flatten(0, 1).T, self.a.flatten(0, 1))


class _Stack(NamedTuple):
    """The gradient of every example, (N, ...)."""

    values: Tensor

    def squares(self) -> Tensor:
        """Return the squared norms (N,)."""
        return norms_of(self.values).square()

    def weighted(self, factors: Tensor) -> Tensor:
        """Return Σᵢ fᵢ gᵢ."""
        return sum_of(self.values, factors)


_Gradient = _Outer | _Stack


class _ByLayer(Contributions):
    def __init__(
        self,
        losses: Tensor,
        logits: Tensor,
        found: dict[int, _Gradient],
        parameters: Sequence[Tensor],
        seen: dict[int, tuple[slice, slice]],
    ) -> None:
        squares = torch.stack([found[id(p)].squares() for p in parameters])
        super().__init__(losses, logits, squares.sum(0).sqrt())
        self.found, self.parameters, self.seen = found, parameters, seen

    def weighted(self, factors: Tensor) -> list[Tensor]:
        return [self._of(p, self.found[id(p)].weighted(factors)) for p in self.parameters]

    def _of(self, parameter: Tensor, value: Tensor) -> Tensor:
        """Return a sum in the shape of its parameter; taps that see no pixel get zeros."""
        if id(parameter) not in self.seen:
            return value.reshape(parameter.shape)
        whole = torch.zeros_like(parameter)
        taps = whole[(..., *self.seen[id(parameter)])]
        taps.copy_(value.view(taps.shape))
        return whole


class Layerwise(PerExample):
    """Computes all examples of a network of fedcli at once."""

    @classmethod
    def supports(cls, module: nn.Module, parameters: Sequence[Tensor]) -> bool:
        """Return whether a network is one of fedcli's, and its trained layers are known."""
        own = {id(p) for layer in _known_layers(module) for p in _own(layer).values()}
        return type(module) in _NETWORKS and own.issuperset(map(id, parameters))

    def contributions(self, inputs: Tensor, labels: Tensor) -> Contributions:
        """Compute some examples."""
        with self._recorded() as calls:
            logits = full(self.module(inputs))
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        outputs = torch.autograd.grad(losses.sum(), [call.edge for call in calls])
        found: dict[int, _Gradient] = {}
        seen: dict[int, tuple[slice, slice]] = {}
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            for call, g in zip(calls, outputs, strict=True):
                taps = _taps(call)
                found |= _gradients(call, full(g), taps)
                if taps is not None:
                    seen[id(call.layer.weight)] = taps
        return _ByLayer(losses.detach(), logits.detach(), found, self.parameters, seen)

    @contextmanager
    def _recorded(self) -> Iterator[list[_Call]]:
        """Record the calls of the layers that are trained."""
        calls: list[_Call] = []
        trained = {id(p) for p in self.parameters}

        def record(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            # An edge, since the next layer may change the output in place.
            calls.append(_Call(layer, given[0].detach(), get_gradient_edge(output)))

        hooks = [
            layer.register_forward_hook(record)
            for layer in _known_layers(self.module)
            if any(id(p) in trained for p in _own(layer).values())
        ]
        try:
            yield calls
        finally:
            for hook in hooks:
                hook.remove()


def _known_layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers whose gradients are known, and which no hook changes, as LoRA does."""
    return [
        layer
        for layer in module.modules()
        if type(layer) in (*_LINEAR, nn.GroupNorm)
        and not layer._forward_hooks
        and getattr(layer, "groups", 1) == 1
    ]


def _own(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.named_parameters(recurse=False))


def _taps(call: _Call) -> tuple[slice, slice] | None:
    """Return the taps of a convolution that see a pixel, if its output is a single one."""
    return call.layer.taps(call.x) if isinstance(call.layer, Conv2d) else None


def _gradients(call: _Call, g: Tensor, taps: tuple[slice, slice] | None) -> dict[int, _Gradient]:
    """Return the gradients of a layer's parameters by their ids; g is that of its output."""
    layer, x = call.layer, full(call.x)
    if isinstance(layer, nn.GroupNorm):
        normal = F.group_norm(x, layer.num_groups, eps=layer.eps)
        found: dict[str, _Gradient] = {
            "weight": _Stack((g * normal).flatten(2).sum(2)),
            "bias": _Stack(g.flatten(2).sum(2)),
        }
    else:
        a, g = _columns(layer, x, taps), g.flatten(2).transpose(1, 2) if g.dim() > 2 else g[:, None]
        many = a.shape[1] > _FEW
        found = {
            "weight": _Stack(g.transpose(1, 2) @ a) if many else _Outer(a, g),
            "bias": _Stack(g.sum(1)),
        }
    return {id(parameter): found[name] for name, parameter in _own(layer).items()}


def _columns(layer: nn.Module, x: Tensor, taps: tuple[slice, slice] | None) -> Tensor:
    """Return what the weights of a layer are multiplied with at each position, (N, T, D)."""
    if isinstance(layer, nn.Linear):
        return x[:, None]
    assert isinstance(layer, nn.Conv2d)
    if taps is not None:
        rows, columns = (slice(0, each.stop - each.start) for each in taps)
        return x[..., rows, columns].flatten(1)[:, None]
    size, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    assert not isinstance(layer.padding, str)
    found = F.unfold(x, size, dilation=dilation, padding=layer.padding, stride=stride)
    return found.transpose(1, 2)
