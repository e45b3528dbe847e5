"""Find a network's tensors in what a file holds, under whatever names people wrap them in.

Training scripts save ``{"epoch": …, "state_dict": {"module.conv1.weight": …}}``, Lightning
``{"state_dict": {"model.conv1.weight": …}}``, and so on. Wrappers are keys of nested mappings, and
prefixes parts of a tensor's name; both are only what comes before the names of the network.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fedcli.errors import BadInputError
from fedcli.models.weight_files import listed

_DEEPEST = 6  # nested mappings
# Where two parts of a file fit alike, the earlier of these wins: averaged weights come last.
_USUAL = ("", "state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
# Parts of these names hold a network; beside it, in the same mapping, are losses and metrics.
_WHOLE = frozenset({*_USUAL, "_orig_mod", "backbone", "encoder", "classifier", "ema"})


@dataclass(frozen=True)
class StateDict:
    """The tensors of a network by its own names.

    ``prefix`` is what stood before each name, wrappers included. ``beside`` are the names of the
    tensors that stood next to the prefix, and ``others`` the prefixes that would have fitted too.
    ``versions`` is what ``load_state_dict`` knows about the forms of old layers.
    """

    tensors: dict[str, Tensor]
    prefix: str = ""
    beside: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether what stood beside the prefix does not belong to a network."""
        return all(part in _WHOLE for part in self.prefix.split("."))


@dataclass(frozen=True)
class _Entry:
    """A tensor in a file: the keys of the mappings around it, and its key."""

    around: str
    key: str
    tensor: Tensor

    @property
    def name(self) -> str:
        return _joined(self.around, self.key)


def find_state_dict(loaded: Any, shapes: Mapping[str, Sequence[int]], origin: str) -> StateDict:
    """Find the tensors of a network, of which ``shapes`` holds the names and shapes.

    Raises ``BadInputError`` if nothing has its names, and if two parts of a file fit alike.
    """
    entries = list(_entries(loaded))
    fits = _fits(entries, shapes)
    if not fits:
        raise BadInputError(
            f"{origin}: expected tensors such as {next(iter(shapes))!r}, found {_found(loaded)}"
        )
    prefix, others = _chosen(fits, origin)
    inside = {_without(e.name, prefix): e for e in entries if _is_under(e.name, prefix)}
    homes = {entry.around for entry in inside.values()}
    beside = [e.name for e in entries if e.around in homes and not _is_under(e.name, prefix)]
    tensors = {name: entry.tensor.detach() for name, entry in inside.items()}
    versions = _versions(loaded, prefix) if prefix.split(".")[0] in _USUAL else {}
    return StateDict(tensors, prefix, tuple(beside), others, versions)


def _entries(loaded: Any, around: str = "", depth: int = 0) -> Iterator[_Entry]:
    if not isinstance(loaded, Mapping) or depth == _DEEPEST:
        return
    for key, value in loaded.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            yield _Entry(around, key, value)
        elif isinstance(key, str):
            yield from _entries(value, _joined(around, key), depth + 1)


def _fits(entries: Sequence[_Entry], shapes: Mapping[str, Sequence[int]]) -> Counter[str]:
    """Count how well each prefix fits: two points for a name and shape, one for a name alone."""
    points: Counter[str] = Counter()
    for entry in entries:
        parts = entry.name.split(".")
        for start in range(len(parts)):
            name = ".".join(parts[start:])
            if name in shapes:
                same = tuple(entry.tensor.shape) == tuple(shapes[name])
                points[".".join(parts[:start])] += 1 + same
    return points


def _chosen(fits: Counter[str], origin: str) -> tuple[str, tuple[str, ...]]:
    """Return the prefix that fits best, and others that fit as well."""
    most = max(fits.values())
    best = sorted((p for p, points in fits.items() if points == most), key=_rank)
    if len(best) > 1 and _rank(best[0]) == _rank(best[1]):
        raise BadInputError(
            f"{origin}: {listed(best)} fit alike", hint="save the one you mean to its own file"
        )
    return best[0], tuple(best[1:])


def _rank(prefix: str) -> int:
    first = prefix.split(".")[0]
    return _USUAL.index(first) if first in _USUAL else len(_USUAL)


def _versions(loaded: Any, prefix: str) -> Mapping[str, Any]:
    """Return the versions of layers that torch saves with a state_dict."""
    for key in ("", *prefix.split(".")):
        loaded = loaded[key] if key and isinstance(loaded, Mapping) and key in loaded else loaded
    found = getattr(loaded, "_metadata", None)
    return found if isinstance(found, Mapping) else {}


def _found(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    named = [entry.name for entry in _entries(loaded)]
    if named:
        return f"{len(named)} tensors: {listed(named)}"
    return f"no named tensor, but {len(loaded)} keys: {listed([str(key) for key in loaded])}"


def _joined(around: str, key: str) -> str:
    return f"{around}.{key}" if around else key


def _is_under(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.")


def _without(name: str, prefix: str) -> str:
    return name[len(prefix) + 1 :] if prefix else name


def outputs_in(loaded: Any) -> frozenset[int]:
    """Return the numbers of outputs of the layers in a file that have a weight and a bias."""
    shapes = {entry.name: tuple(entry.tensor.shape) for entry in _entries(loaded)}
    return frozenset(
        shape[0]
        for name, shape in shapes.items()
        if name.endswith("bias")
        and len(shape) == 1
        and shapes.get(f"{name.removesuffix('bias')}weight", ())[:1] == shape
    )
