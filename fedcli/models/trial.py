"""A trial run of a network on a few examples: its output and the layers it calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.errors import UsageError
from fedcli.user_code import with_place

TRIED = 2  # examples: a layer that normalises over the batch takes no single one


@dataclass(frozen=True)
class Trial:
    """The output, and the called layers that have parameters of their own, in call order."""

    output: object
    layers: tuple[str, ...]

    @property
    def last_layer(self) -> str:
        """The layer that computes the logits, which is reinitialised for other classes.

        It is "" for a network that is a single layer or calls none.
        """
        return self.layers[-1] if self.layers else ""


@torch.no_grad()
def try_out(module: nn.Module, examples: Tensor, where: str) -> Trial:
    """Pass examples (N, ...) through a network in evaluation mode, without changing the network.

    Raises ``UsageError``, whose message begins with ``where``, if the network fails.
    """
    training = module.training
    with _recorded_calls(module) as called:
        try:
            output = module.eval()(examples)
        except Exception as error:
            raise UsageError(
                f"{where} makes it fail: {with_place(error)}",
                hint="another --image-size may work" if examples.dim() == 4 else None,
            ) from error
    module.train(training)
    return Trial(output, tuple(called))


@contextmanager
def _recorded_calls(module: nn.Module) -> Iterator[list[str]]:
    names = {layer: name for name, layer in module.named_modules()}
    called: list[str] = []

    def record(layer: nn.Module, _: object) -> None:
        called.append(names[layer])

    own = [layer for layer in names if any(True for _ in layer.parameters(recurse=False))]
    hooks = [layer.register_forward_pre_hook(record) for layer in own]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def try_training(module: nn.Module, shape: tuple[int, ...], num_classes: int, where: str) -> None:
    """Train a network on two batches of random examples, the last one smaller; change it freely.

    Raises ``UsageError``, whose message begins with ``where``, if the network fails, returns
    anything but logits (N, classes), or if its tensors do not keep their names and shapes.
    """
    if odd := [name for name, held in module.state_dict().items() if not isinstance(held, Tensor)]:
        raise UsageError(
            f"{where}: its state_dict holds {odd[0]!r}, which is not a tensor",
            hint="keep it in a buffer instead, or leave out get_extra_state",
        )
    before = _shapes(module)
    module.train()
    for count in (3, 2):
        try:
            output = module(torch.randn(count, *shape))
            found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if found == [count, num_classes] and output.requires_grad:
                output.float().logsumexp(1).sum().backward()
        except Exception as error:
            raise UsageError(f"{where} makes it fail in training: {with_place(error)}") from error
        if found != [count, num_classes]:
            raise UsageError(
                f"{where}: expected an output of shape {[count, num_classes]} in training too,"
                f" found {found}",
                hint="return the logits alone, also in training mode",
            )
    if changed := sorted(name for name, _ in before.items() ^ _shapes(module).items()):
        raise UsageError(
            f"{where}: its forward creates or resizes tensor {changed[0]!r} in training",
            hint="create it in __init__ with its final shape, or with persistent=False",
        )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
