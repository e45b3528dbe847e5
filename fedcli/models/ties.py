"""Tied tensors: one tensor of a network that has several names."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from fedcli.errors import BadInputError, UsageError


def ties_of(module: nn.Module) -> dict[str, str]:
    """Return the first name of every tensor that has several, by its other names.

    Raises ``UsageError`` for tensors that share memory without being one tensor, such as a weight
    and its transpose: they can be neither averaged nor stored apart.
    """
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in _tensors(module):
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if first.setdefault(key, name) != name:
            tied[name] = first[key]
    _check_apart({name: tensor for name, tensor in _tensors(module) if name not in tied})
    return tied


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.numel():
            yield name, tensor


def _check_apart(tensors: Mapping[str, Tensor]) -> None:
    ranges = sorted((*_memory(tensor), name) for name, tensor in tensors.items())
    for (_, end, name), (start, _, other) in pairwise(ranges):
        if start < end:
            raise UsageError(
                f"--model: tensors {name!r} and {other!r} share memory, but are not one tensor",
                hint="give one nn.Parameter both names, and transpose it in forward",
            )


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor, and the one after its last."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def check_ties(module: nn.Module, recorded: Mapping[str, str], origin: Path) -> None:
    """Raise ``BadInputError`` if a network's tied tensors are not those that the run records."""
    found = ties_of(module)
    if found != dict(recorded):
        name = min(found.items() ^ recorded.items())[0]
        here, there = ("is tied", "not") if name in found else ("is not tied", "is")
        raise BadInputError(
            f"tensor {name!r} {here} in this network, and {there} in the run's model",
            hint="use the code that the run was made with, or make the run again",
            path=origin,
        )
