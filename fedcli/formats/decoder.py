"""Decoding of encoded updates: the tensors that they stand for, in any pieces.

An update is decoded chunk by chunk. An open one keeps what was sent of its last chunk, if that is
little; each thread keeps the chunk that it decoded last, and what it read of base models last.
"""

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.codecs import CHUNK, Codec
from fedcli.codecs.base import Positions
from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.dtypes import Array, Values, is_float
from fedcli.formats.encoded import (
    BUFFERS,
    CONTROLS,
    COUNTERS,
    HALF,
    PARAMETERS,
    SINGLE,
    Parts,
    vector_of,
    write_step,
)
from fedcli.formats.encoded_vector import EncodedVector, check_tensor
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout, TensorInfo

_WIDTH = SINGLE.itemsize
_MOST_REGIONS = 4  # in each thread; late updates may have different base models
_MOST_KEPT = 4 * CHUNK  # values of base models, in each thread


@dataclass(frozen=True)
class _Region:
    """A part of a layout: values x of the base model, as fl(x + 0), and what lies where.

    ``first`` is the first of its coordinates, ``parameters`` their places. ``buffers`` are the
    places of the values of buffers, ``numbers`` which of all buffers' values they are.
    """

    first: int
    parameters: Positions
    buffers: Positions
    numbers: Positions
    base: Array


class _LastRegions(threading.local):
    """The regions that a thread read last: other updates of the round need them next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[TensorFile, int, int], tuple[Layout, _Region]] = {}

    def get(
        self,
        base: TensorFile,
        layout: Layout,
        offset: int,
        size: int,
        read: Callable[[int, int], _Region],
    ) -> _Region:
        """Return a region of a layout, which ``read`` makes."""
        kept = self._kept.get((base, offset, size))
        if kept is None or kept[0] is not layout:
            if len(self._kept) >= _MOST_REGIONS:
                self._kept = {}
            kept = layout, read(offset, size)
            self._kept[base, offset, size] = kept
        return kept[1]


class _LastBases(threading.local):
    """The values of base models that a thread read last: other updates need them next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[TensorFile, str, int, int], Array] = {}
        self._size = 0

    def read(self, base: TensorFile, name: str, first: int, count: int) -> Array:
        """Return values of a tensor; the caller changes none."""
        key = base, name, first, count
        if key not in self._kept:
            if self._size + count > _MOST_KEPT:
                self._kept, self._size = {}, 0
            info = base.layout[name]
            values = np.empty(count, info.dtype)
            base.read_into(values.view(np.uint8).data, info.start + first * info.dtype.itemsize)
            self._kept[key], self._size = values, self._size + count
        return self._kept[key]


_REGIONS = _LastRegions()
_BASES = _LastBases()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Values of a tensor from ``first`` on, and the bytes of a buffer that they fill."""

    name: str
    info: TensorInfo
    first: int
    count: int
    place: slice


@dataclass(frozen=True)
class Moved:
    """The values ``base`` of a base model, and the few of them ``at`` which an update moves ``by``.

    ``by`` are the differences in float64 of the update's float32 values.
    """

    at: Positions
    by: Values
    base: Array

    def without(self, places: Sequence[slice]) -> "Moved":
        """Return it without what it moves at these places."""
        if not places:
            return self
        wanted = np.ones(len(self.base), bool)
        for place in places:
            wanted[place] = False
        kept = wanted[self.at]
        return Moved(self.at[kept], self.by[kept], self.base)

    def values(self, place: slice) -> Array:
        """Return the update's values at a place, float32."""
        found = self.base[place].astype(np.float64)
        here = (self.at >= place.start) & (self.at < place.stop)
        found[self.at[here] - place.start] += self.by[here]
        return found.astype(SINGLE)


class Decoder:
    """Reads an encoded update as the tensors that it stands for, in any pieces."""

    def __init__(
        self,
        file: TensorFile,
        codec: Codec,
        layout: Layout,
        roles: Mapping[str, Role],
        base: TensorFile,
        seed: tuple[int, int],
        also: tuple[str, ...] = (),
    ) -> None:
        """``layout`` and ``roles`` are those of the update decoded; ``seed`` is run seed and round.

        ``also`` names tensors of the file that the caller reads.
        Raises ``ValueError`` for a file whose tensors are not those of such an update.
        """
        self._layout, self._roles, self._base = layout, roles, base
        self._names, self._starts = list(layout), [info.start for info in layout.values()]
        parts = Parts.of(layout, roles)
        self._counters = self._small(file, parts.counters, COUNTERS, (np.dtype("<i8"),))
        self._vectors = {
            prefix: EncodedVector(file, prefix, codec, vector_of(layout, names, *seed))
            for prefix, names in parts.groups.items()
        }
        self._buffers = self._small(file, parts.buffers, BUFFERS, (HALF, SINGLE))
        self._firsts = {
            name: first
            for names in (*parts.groups.values(), parts.buffers, parts.counters)
            for name, first in zip(names, _firsts(layout, names), strict=True)
        }
        self._check_all_known(file, also)

    @property
    def in_order(self) -> bool:
        """Whether reading the tensors in order reads the file in order, too."""
        return len(self._vectors) == 1

    def _small(
        self, file: TensorFile, names: tuple[str, ...], name: str, dtypes: tuple[Any, ...]
    ) -> Array:
        if not names:
            return np.zeros(0)
        size = sum(math.prod(self._layout[one].shape) for one in names)
        check_tensor(file, name, dtypes, (size,))
        return file.stored(name)

    def _check_all_known(self, file: TensorFile, also: tuple[str, ...]) -> None:
        known = {
            f"{prefix}/{end}" for prefix in self._vectors for end in ("table", "scales", "data")
        }
        if other := sorted(file.layout.keys() - known - {BUFFERS, COUNTERS, *also}):
            raise ValueError(f"has a tensor {other[0]!r} that its encoding does not have")

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) with the tensors, starting ``offset`` bytes into their layout.

        Raises ``ValueError`` for bytes that cannot be decoded.
        """
        for piece in self._pieces(offset, len(buffer)):
            into = np.frombuffer(buffer[piece.place], piece.info.dtype)
            at = self._firsts[piece.name] + piece.first
            if is_float(piece.info.dtype):
                self._write(piece, at, into)
            else:
                into[...] = self._counters[at : at + piece.count].astype(into.dtype)

    def moved(self, offset: int, size: int) -> Moved:
        """Return what a sparse update moves among ``size`` bytes of float32, without controls.

        Raises ``ValueError`` for bytes that cannot be decoded.
        """
        region = _REGIONS.get(self._base, self._layout, offset, size, self._region)
        at, steps = self._vectors[PARAMETERS].sent(region.first, len(region.parameters))
        with np.errstate(over="ignore", invalid="ignore"):
            if len(region.buffers):
                at = np.concatenate([region.parameters.take(at), region.buffers])
                steps = np.concatenate([steps, self._buffers[region.numbers]])
            before = region.base.take(at)
            return Moved(at, np.subtract(before + steps, before, dtype=np.float64), region.base)

    def _region(self, offset: int, size: int) -> _Region:
        places: dict[bool, list[Positions]] = {True: [], False: []}  # of parameters, of buffers
        firsts: dict[bool, list[Positions]] = {True: [], False: []}
        values = []
        for piece in self._pieces(offset, size):
            first, place = self._firsts[piece.name] + piece.first, piece.place.start // _WIDTH
            kind = self._roles.get(piece.name, Role.PARAMETER) == Role.PARAMETER
            places[kind].append(np.arange(place, place + piece.count))
            firsts[kind].append(np.arange(first, first + piece.count))
            values.append(_BASES.read(self._base, piece.name, piece.first, piece.count))
        none = np.zeros(0, np.int64)
        return _Region(
            int(firsts[True][0][0]) if firsts[True] else 0,
            np.concatenate([none, *places[True]]),
            np.concatenate([none, *places[False]]),
            np.concatenate([none, *firsts[False]]),
            np.concatenate(values) + SINGLE.type(0),
        )

    @property
    def sparse(self) -> bool:
        """Whether only some of the parameters may differ from those of the base model."""
        return self._vectors[PARAMETERS].sparse

    def forget(self) -> None:
        """Free what it keeps to read faster."""
        for vector in self._vectors.values():
            vector.forget()

    def _pieces(self, offset: int, size: int) -> Iterator[_Piece]:
        for name in self._names[bisect_right(self._starts, offset) - 1 :]:
            info = self._layout[name]
            if info.start >= offset + size:
                return
            start, stop = max(info.start, offset), min(info.stop, offset + size)
            if start < stop:
                width = info.dtype.itemsize
                first, count = (start - info.start) // width, (stop - start) // width
                yield _Piece(name, info, first, count, slice(start - offset, stop - offset))

    def _write(self, piece: _Piece, at: int, into: Array) -> None:
        role = self._roles.get(piece.name, Role.PARAMETER)
        if role == Role.CONTROL:
            self._vectors[CONTROLS].write(into, None, at)
            return
        base = _BASES.read(self._base, piece.name, piece.first, piece.count)
        if role == Role.PARAMETER:
            self._vectors[PARAMETERS].write(into, base, at)
        else:
            write_step(into, base, self._buffers[at : at + piece.count])


def _firsts(layout: Layout, names: tuple[str, ...]) -> list[int]:
    sizes = [math.prod(layout[name].shape) for name in names]
    return np.cumsum([0, *sizes[:-1]]).tolist() if names else []
