"""LoRA: a low-rank change of each weight, which is trained instead of the weight.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1, equation 3:

    h = W x + (α / r) B A x

W (out × in) is frozen; A (r × in) is random and B (out × r) is zero, so that the network's output
does not change at first. For a convolution, A is the same convolution with r output channels, and
B is a 1×1 convolution. They are named ``lora_a`` and ``lora_b``, next to the layer's ``weight``;
all other tensors keep their names.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcli.errors import UsageError
from fedcli.models.convolution import Conv2d
from fedcli.models.ties import ties_of
from fedcli.models.trial import Trial

A, B = "lora_a", "lora_b"
_ENDS = (f".{A}", f".{B}")


def add_adapters(module: nn.Module, trial: Trial, rank: int, scale: float) -> None:
    """Add an adapter to every linear and convolutional layer except the last, in place.

    Some layers get none: layers that the network does not call but whose weights it reads, such as
    those in ``nn.MultiheadAttention``; subclasses, and layers with computed or tied weights, for
    which ``merged`` would be wrong; and grouped convolutions, which are smaller than their
    adapters. Raises ``UsageError`` if no layer is left.
    """
    tied = {name for pair in ties_of(module).items() for name in pair}
    called = {name: module.get_submodule(name) for name in dict.fromkeys(trial.layers)}
    layers = [
        layer
        for name, layer in called.items()
        if name != trial.last_layer and f"{name}.weight" not in tied and _fits(layer)
    ]
    if not layers:
        raise UsageError("--lora: the model has no linear or convolutional layer except the last")
    for layer in layers:
        _add_adapter(layer, rank, scale)


def _fits(layer: nn.Module) -> bool:
    plain = type(layer) in (nn.Linear, nn.Conv2d, Conv2d) and getattr(layer, "groups", 1) == 1
    return plain and isinstance(layer.weight, nn.Parameter)


def _add_adapter(layer: nn.Module, rank: int, scale: float) -> None:
    weight = layer.get_parameter("weight")
    outputs, _, *kernel = weight.shape
    a = weight.new_empty(rank, *weight.shape[1:])
    nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # as torch initialises such a layer
    layer.register_parameter(A, nn.Parameter(a))
    layer.register_parameter(B, nn.Parameter(weight.new_zeros(outputs, rank, *(1 for _ in kernel))))
    # A hook keeps the class of the layer. It also keeps nn.TransformerEncoderLayer off its fast
    # path, which would read the weight instead of calling the layer.
    layer.register_forward_hook(partial(_add_change, scale), with_kwargs=True)


def _add_change(
    scale: float, layer: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any], output: Tensor
) -> Tensor:
    x = given[0] if given else named["input"]
    a, b = getattr(layer, A), getattr(layer, B)  # torch.func puts tensors in their place
    if isinstance(layer, nn.Conv2d):
        return output + F.conv2d(layer._conv_forward(x, a, None) * scale, b)
    return output + F.linear(F.linear(x, a) * scale, b)


def all_but_adapters(last_layer: str, local: Sequence[str] = ()) -> tuple[str, ...]:
    """Return patterns that freeze everything except adapters, the last layer and local layers.

    ``local`` must have no pattern that starts with ``!``.
    """
    trained = [f"*.{A}", f"*.{B}", last_layer, *local]
    return ("*", *(f"!{pattern}" for pattern in trained))


def adapted(names: Iterable[str]) -> list[str]:
    """Return the layers that have an adapter among these tensor names."""
    return sorted({name.rpartition(".")[0] for name in names if name.endswith(_ENDS)})


def without_adapters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state_dict without the tensors of adapters."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_ENDS)}


def merged(tensors: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """Return the state_dict of the equivalent network without adapters: W + (α / r) B A.

    ``tensors`` is a state_dict with adapters, which stays unchanged; ``scale`` is α / r, the
    ``lora_scale`` of the run's ``ModelInfo``.
    """
    plain = without_adapters(tensors)
    for layer in adapted(tensors):
        a, b = tensors[f"{layer}.{A}"], tensors[f"{layer}.{B}"]
        weight = f"{layer}.weight"
        plain[weight] = plain[weight] + scale * torch.tensordot(b.flatten(1), a, 1)
    return plain
