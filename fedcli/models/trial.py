"""One example put through a network: whether it goes through, and which layers it meets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.errors import UsageError
from fedcli.user_code import in_one_line


@dataclass(frozen=True)
class Trial:
    """What came out, and the layers with parameters of their own, in the order of their calls."""

    output: object
    layers: tuple[str, ...]

    @property
    def last_layer(self) -> str:
        """The layer that gives the logits, which is drawn anew for other classes.

        It is "" for a network that is one layer itself, or calls none.
        """
        return self.layers[-1] if self.layers else ""


@torch.no_grad()
def try_out(module: nn.Module, example: Tensor, where: str) -> Trial:
    """Put an example (1, ...) through a network in evaluation mode, which changes nothing of it.

    Raises ``UsageError`` that begins with ``where`` when it does not go through.
    """
    training = module.training
    with _recorded_calls(module) as called:
        try:
            output = module.eval()(example)
        except Exception as error:
            raise UsageError(
                f"{where} does not go through it: {in_one_line(error)}",
                hint="another --image-size may do" if example.dim() == 4 else None,
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
