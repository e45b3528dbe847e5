"""Which tensors of a model do not travel: frozen ones, and layers that stay with the client."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from fedcli.errors import UsageError
from fedcli.metadata import Role


def matching(patterns: Sequence[str], names: Iterable[str]) -> frozenset[str]:
    """Return the tensors that one of the patterns names, by its own name or by its module's.

    ``*`` stands for any text: ``fc`` is all of that layer, ``layer[12].*.bn1`` some of ResNet's.
    A pattern that starts with ``!`` takes tensors out again: ``*`` and ``!fc`` are all but one.
    """
    wanted = [p for p in patterns if not p.startswith("!")]
    unwanted = [p.removeprefix("!") for p in patterns if p.startswith("!")]
    return frozenset(n for n in names if _named(n, wanted) and not _named(n, unwanted))


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def checked(patterns: Sequence[str], names: Iterable[str], option: str) -> frozenset[str]:
    """Return ``matching``; raise ``UsageError`` for a pattern that names nothing."""
    names = sorted(names)
    for pattern in patterns:
        if not matching([pattern.removeprefix("!")], names):
            raise UsageError(
                f"{option} {pattern}: no tensor of the model has such a name",
                hint=f"names are such as {', '.join(names[:3])}",
            )
    return matching(patterns, names)


def batch_norm_layers(roles: Mapping[str, Role]) -> tuple[str, ...]:
    """Return the layers that keep running statistics, which FedBN leaves with the client.

    They are told by their buffers' names, as ``torch.nn.BatchNorm2d`` gives them.
    """
    end = ".running_mean"
    return tuple(sorted(name.removesuffix(end) for name in roles if name.endswith(end)))


def withheld(training: Mapping[str, Any], names: Iterable[str]) -> frozenset[str]:
    """Return the tensors that an update trained like this does not hold.

    ``training`` is what the update's metadata says; ``freeze`` and ``local_layers`` are patterns.
    """
    names = frozenset(names)
    frozen = matching(training.get("freeze", ()), names)
    return frozen | matching(training.get("local_layers", ()), names)
