"""The global generators that a network may draw from: those of Python, numpy and torch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class GeneratorStates:
    """The states of all global generators that a network on a device may draw from."""

    of_python: Any
    of_numpy: Any
    of_torch: Tensor
    of_cuda: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device = _CPU) -> Self:
        """Return the current states."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        of_numpy = np.random.get_state(legacy=False)
        return cls(random.getstate(), of_numpy, torch.get_rng_state(), cuda, device)

    def restore(self) -> None:
        """Put the generators back into these states."""
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)
        torch.set_rng_state(self.of_torch)
        if self.of_cuda is not None:
            torch.cuda.set_rng_state(self.of_cuda, self.device)


def seed_generators(seed: int, device: torch.device = _CPU) -> None:
    """Seed all global generators that a network on a device may draw from.

    ``torch.manual_seed`` seeds those of all possible devices, and takes a millisecond.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the legacy generator takes no more
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_generators(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Seed all global generators, and put them back at the end."""
    before = GeneratorStates.now(device)
    try:
        seed_generators(seed, device)
        yield
    finally:
        before.restore()
