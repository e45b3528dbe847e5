"""Limits on what an update holds beside its parameters, which no norm measures.

A mean takes in every value of a buffer. So, from three updates on, the tensor of a client that is
much farther from the coordinate-wise median than the others' is moved towards it, a variance counts
as at least 0, and a counter as at most a multiple of the others'. Rules with a median of buffers
need no limits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.updates import Update
from fedcli.formats.dtypes import Array, Values, as_float, is_float
from fedcli.formats.manifest import BoundedClaim
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import TensorInfo
from fedcli.strategies.claims import FEWEST, MOST, of_the_others, upper_rank
from fedcli.strategies.ranks import median

_PIECE_VALUES = 2**20  # of all updates together
_VARIANCE = "running_var"  # torch's name of a variance in every layer that normalises


@dataclass(frozen=True)
class BufferLimits:
    """What counts of buffers and counters, by tensor; a tensor without limits is in none.

    ``shares`` (n,) are the shares of the updates' distances from their median that count, and
    ``most`` the largest values of a counter, flat. ``variances`` are counted as at least 0.
    """

    shares: Mapping[str, Values] = field(default_factory=dict)
    variances: frozenset[str] = frozenset()
    most: Mapping[str, Array] = field(default_factory=dict)
    bounded: tuple[BoundedClaim, ...] = ()

    def applies_to(self, name: str) -> bool:
        """Return whether the values of a buffer are limited."""
        return name in self.shares or name in self.variances

    def applied(self, name: str, stack: Values) -> Values:
        """Return the values (n, B) of a buffer, float64, as far as they count."""
        if name in self.shares:
            middle = median(stack.copy())
            stack = middle + (stack - middle) * self.shares[name][:, None]
        return np.maximum(stack, 0) if name in self.variances else stack


NO_LIMITS = BufferLimits()


def buffer_limits(base: Base, updates: Sequence[Update], *, controls: bool) -> BufferLimits:
    """Compare the buffers and counters of updates, with ``controls`` those too.

    Only these tensors are read, and they are not hashed. There are no limits for fewer than three
    updates, nor for partial means.
    """
    if len(updates) < FEWEST or any(update.members for update in updates):
        return NO_LIMITS
    roles = {Role.BUFFER, Role.CONTROL} if controls else {Role.BUFFER}
    found = _Found(updates)
    for name, info in base.layout.items():
        if not is_float(info.dtype):
            if info.dtype.kind in "iu":
                found.add_counter(name, info)
        elif base.roles.get(name) in roles:
            found.add_buffer(name, info)
    return found.limits()


class _Found:
    """Gathers the limits of one tensor after another."""

    def __init__(self, updates: Sequence[Update]) -> None:
        self._updates = updates
        self._shares: dict[str, Values] = {}
        self._variances: set[str] = set()
        self._most: dict[str, Array] = {}
        self._bounded: dict[tuple[int, str], tuple[float, BoundedClaim]] = {}

    def add_buffer(self, name: str, info: TensorInfo) -> None:
        """Limit the distances from the median, and what is below 0 in a variance."""
        squares, size = np.zeros(len(self._updates)), 0.0
        lowest = np.zeros(len(self._updates))
        for stack in self._pieces(name, info):
            values = as_float(stack).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                middle = median(values.copy())
                squares += np.square(values - middle).sum(axis=1)
                size += float(np.square(middle).sum())
                np.minimum(lowest, values.min(axis=1, initial=0), out=lowest)
        apart = np.sqrt(np.nan_to_num(squares, nan=0.0, posinf=np.inf))
        limits = MOST * (np.sqrt(size) + of_the_others(apart))
        self._limit(name, apart, limits)
        if name.endswith(_VARIANCE) and (lowest < 0).any():
            self._variances.add(name)
            for index in np.flatnonzero(lowest < 0).tolist():
                self._note(index, name, float(lowest[index]), 0.0, np.inf)

    def _limit(self, name: str, apart: Values, limits: Values) -> None:
        far = np.flatnonzero(apart > limits).tolist()
        if not far:
            return
        self._shares[name] = np.ones(len(apart))
        for index in far:
            found, used = float(apart[index]), float(limits[index])
            self._shares[name][index] = used / found  # 0 if the squares overflow
            self._note(index, name, min(found, np.finfo(np.float64).max), used, found)

    def add_counter(self, name: str, info: TensorInfo) -> None:
        """Limit every count by a multiple of the others' median."""
        limits, largest = [], np.zeros(len(self._updates))
        for stack in self._pieces(name, info):
            ordered = np.sort(stack, axis=0)
            # what is above this rank has the same median of the others
            middle = np.maximum(ordered[upper_rank(len(stack))], 1)
            highest = np.iinfo(stack.dtype).max
            most = np.where(middle > highest // MOST, highest, middle * MOST)
            limits.append(most.astype(stack.dtype))
            above = (stack > limits[-1]).any(axis=1)
            np.maximum(largest, np.where(above, stack.max(axis=1), 0), out=largest)
        if largest.any():
            self._most[name] = np.concatenate(limits)
            for index in np.flatnonzero(largest).tolist():
                used = float(self._most[name].max())
                self._note(index, name, float(largest[index]), used, largest[index])

    def _note(self, index: int, name: str, found: float, used: float, rank: float) -> None:
        """Keep the worst tensor of each update and kind: an update may have thousands."""
        update = self._updates[index]
        kind = name.rpartition(".")[2]
        before = self._bounded.get((index, kind))
        if before is None or rank > before[0]:
            self._bounded[index, kind] = rank, BoundedClaim(update.name, name, found, used)

    def _pieces(self, name: str, info: TensorInfo) -> Iterator[Array]:
        """Yield the values of all updates, (n, B), a range of coordinates at a time."""
        size = (info.stop - info.start) // info.dtype.itemsize
        width = max(1, _PIECE_VALUES // len(self._updates))
        for first in range(0, size, width):
            stack = np.empty((len(self._updates), min(width, size - first)), info.dtype)
            for row, update in zip(stack, self._updates, strict=True):
                update.values.read_unhashed(name, first, row)
            yield stack

    def limits(self) -> BufferLimits:
        """Return what was found."""
        ordered = [self._bounded[key][1] for key in sorted(self._bounded)]
        return BufferLimits(self._shares, frozenset(self._variances), self._most, tuple(ordered))
