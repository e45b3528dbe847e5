"""Copy given weights into a network, and report what became of each tensor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.errors import BadInputError
from fedcli.models.lora import adapted, without_adapters
from fedcli.models.state_dicts import StateDict
from fedcli.models.ties import ties_of
from fedcli.models.weight_files import listed

_COUNTER = "num_batches_tracked"  # torch added it to BatchNorm later; it starts at 0


@dataclass(frozen=True)
class StartReport:
    """What became of given weights, by tensor name.

    ``origin`` says where they come from, and ``prefix`` what stood before each name there.
    ``taken`` are tensors that were copied, ``drawn`` those of the network that were drawn from the
    seed, and ``left_over`` the given ones that the network has no place for. ``others`` are parts
    of the file that would have fitted as well.
    """

    origin: str
    prefix: str
    taken: tuple[str, ...]
    drawn: tuple[str, ...]
    left_over: tuple[str, ...]
    others: tuple[str, ...] = ()


@torch.no_grad()
def copy_start_weights(
    module: nn.Module, given: StateDict, last_layer: str, origin: str
) -> StartReport:
    """Copy weights into a module, in place.

    The last layer and auxiliary heads are left as they are where the given ones have another size,
    and so are adapters. Raises ``BadInputError`` if any other tensor is missing, is left over, has
    another shape, or has values that the network cannot hold.
    """
    _check_plain(given, origin)
    state = without_adapters(module.state_dict())
    fitting = _fitting(state, given.tensors, last_layer)
    tied = ties_of(module)
    _check_complete(state, given, _with_ties(fitting, tied), last_layer, origin)
    left = _left_over(state, given, fitting, last_layer, origin)
    _check_values(state, given.tensors, fitting, origin)
    _check_ties(given.tensors, fitting, tied, origin)
    for name in fitting:
        state[name].copy_(given.tensors[name])
    taken = _with_ties(fitting, tied)
    drawn = [name for name in module.state_dict() if name not in taken]
    return StartReport(
        origin,
        given.prefix,
        tuple(name for name in state if name in taken),
        tuple(drawn),
        (*left, *given.beside),
        given.others,
    )


def _check_plain(given: StateDict, origin: str) -> None:
    """Refuse adapters, and layouts and devices whose values cannot be copied."""
    if layers := adapted(given.tensors):
        raise BadInputError(
            f"{origin}: layer {layers[0]!r} has a LoRA adapter",
            hint="merge the adapters into the weights first: fedcli.merged",
        )
    odd = [
        name
        for name, tensor in given.tensors.items()
        if tensor.layout != torch.strided or tensor.device.type != "cpu"
    ]
    if odd:
        raise BadInputError(f"{origin}: expected plain tensors; {listed(odd)} have no values")


def _fitting(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], last_layer: str
) -> frozenset[str]:
    """Return the tensors to copy: a head is taken with all its tensors or not at all."""
    unfit = {name for name in state if name not in given or given[name].shape != state[name].shape}
    heads = {_layer(name) for name in unfit if _is_head(name, last_layer)}
    return frozenset(n for n in state if n not in unfit and _layer(n) not in heads)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _is_head(name: str, last_layer: str) -> bool:
    """Return whether a tensor is of the last layer, what replaced it, or an auxiliary head."""
    in_last = name.startswith(f"{last_layer}.") if last_layer else "." not in name
    return in_last or any(part.lower().startswith("aux") for part in name.split("."))


def _check_complete(
    state: Mapping[str, Tensor],
    given: StateDict,
    fitting: Iterable[str],
    last_layer: str,
    origin: str,
) -> None:
    """Refuse weights without a tensor that the network needs."""
    missing = [
        name
        for name in state
        if name not in fitting and not _is_head(name, last_layer) and not name.endswith(_COUNTER)
    ]
    if not missing:
        return
    name = missing[0]
    found = given.tensors.get(name)
    what = "no such tensor" if found is None else f"shape {list(found.shape)}"
    more = f", and {len(missing) - 1} more do not fit" if len(missing) > 1 else ""
    raise BadInputError(
        f"{origin}: tensor {name!r}: expected shape {list(state[name].shape)}, found {what}{more};"
        f" its {len(given.tensors)} tensors are {listed(list(given.tensors))}",
        hint="--model must be the network that these weights belong to",
    )


def _left_over(
    state: Mapping[str, Tensor],
    given: StateDict,
    fitting: frozenset[str],
    last_layer: str,
    origin: str,
) -> tuple[str, ...]:
    """Return the given tensors that have no place; refuse any but heads.

    What stands beside the whole network, such as the weights of a loss, does not belong to it.
    """
    left = [name for name in given.tensors if name not in fitting]
    body = [n for n in left if not _is_head(n, last_layer) and not n.endswith(_COUNTER)]
    if _is_renamed_head(body, state, given.tensors, last_layer):
        body = []
    foreign = body if given.is_whole else [*body, *given.beside]
    if foreign:
        raise BadInputError(
            f"{origin}: {len(fitting)} of its {len(given.tensors) + len(given.beside)} tensors fit"
            f" the network, which has no place for {listed(foreign)}",
            hint="--model must be the network that these weights belong to",
        )
    return tuple(left)


def _is_renamed_head(
    names: list[str], state: Mapping[str, Tensor], given: Mapping[str, Tensor], last_layer: str
) -> bool:
    """Return whether these are one layer that takes the features of a last layer not given."""
    weight = f"{last_layer}.weight" if last_layer else "weight"
    if len({_layer(name) for name in names}) != 1 or weight in given or weight not in state:
        return False
    old = given.get(f"{_layer(names[0])}.weight")
    return old is not None and old.shape[1:] == state[weight].shape[1:]


def _with_ties(names: frozenset[str], tied: Mapping[str, str]) -> frozenset[str]:
    """Add the other names of the tensors that have one of these names."""
    held = {tied.get(name, name) for name in names}
    return names | held | {name for name, first in tied.items() if first in held}


def _check_values(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Iterable[str], origin: str
) -> None:
    """Refuse all tensors whose values the network cannot hold, by name."""
    copied = [name for name in state if name in set(names)]
    faults = {name: _fault(given[name], state[name]) for name in copied}
    bad = [f"tensor {name!r} {fault}" for name, fault in faults.items() if fault]
    if bad:
        more = f"; and {len(bad) - 4} more" if len(bad) > 4 else ""
        raise BadInputError(f"{origin}: {'; '.join(bad[:4])}{more}")


def _check_ties(
    given: Mapping[str, Tensor], names: frozenset[str], tied: Mapping[str, str], origin: str
) -> None:
    for name, first in tied.items():
        if {name, first} <= names and not torch.equal(given[first], given[name]):
            raise BadInputError(
                f"{origin}: {first!r} and {name!r} are one tensor in the network (tied weights),"
                " but have different values"
            )


def _fault(given: Tensor, own: Tensor) -> str | None:
    """Return what is wrong with values of one tensor, or None."""
    dtype = str(given.dtype).removeprefix("torch.")
    if own.is_floating_point():
        if not given.is_floating_point() or given.element_size() == 1:
            return f"is {dtype}: expected floating-point weights, not quantised ones"
        if not torch.isfinite(given).all():
            return "is NaN or infinite"
        if not torch.isfinite(given.to(own.dtype)).all():
            wide = str(own.dtype).removeprefix("torch.")
            return f"has values up to {given.abs().max().item():.3g}, too large for {wide}"
        return None
    if (
        given.is_complex()
        or given.is_quantized
        or not torch.equal(given.to(own.dtype).to(given.dtype), given)
    ):
        return f"is {dtype}: expected whole numbers that fit {own.dtype}".replace("torch.", "")
    return None
