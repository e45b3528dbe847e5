"""Sources of examples, and the batches of an epoch."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fedcli.training.devices import is_out_of_memory


class Source(Protocol):
    """A client's examples, batch by batch."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples of each batch: x as stored, y int64, both on the device.

        A batch is an int64 tensor of indices on the CPU.
        """
        ...


class InMemory:
    """Examples on the device, or in pinned memory if the device is too small."""

    def __init__(self, x: Tensor, y: Tensor, device: torch.device) -> None:
        self.device = device
        try:
            self.x, self.y = x.to(device), y.to(device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.x, self.y = x.pin_memory(), y.pin_memory()

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.y)

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples of each batch, on the device."""
        for batch in batches:
            chosen = batch.to(self.x.device)
            yield self.x[chosen].to(self.device), self.y[chosen].to(self.device)


def slices(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` examples into slices of ``size``.

    A last slice of one example joins the slice before it, unless ``size`` is 1: BatchNorm cannot
    normalise a single value.
    """
    start = 0
    while start < count:
        stop = start + size if size == 1 or count - start - size != 1 else count
        yield slice(start, min(stop, count))
        start = stop


def count_batches(count: int, size: int) -> int:
    """Return how many steps an epoch over ``count`` examples takes."""
    return sum(1 for _ in slices(count, size))


def in_order(count: int, size: int) -> list[Tensor]:
    """Return the batches of all examples in order."""
    return [torch.arange(part.start, part.stop) for part in slices(count, size)]


def shuffled(count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Return the batches of an epoch in an order drawn from ``generator``."""
    order = torch.randperm(count, generator=generator)
    return [order[part] for part in slices(count, size)]
