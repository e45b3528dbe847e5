"""Encoded updates: flat tensors in place of the model's, decoded against the base model.

The parameters are one vector, in the order of the update's layout, and the control variates of an
algorithm another. Names, shapes and roles come from the base model, which the update names by its
SHA-256. An encoded update stands for the values fl(x + c): base model plus decoded step.
"""

import math
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.codecs import CHUNK, Chunk, Codec, Encoded, Vector
from fedcli.codecs.base import Steps
from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.dtypes import Array, as_float, from_float, is_float
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout, TensorInfo
from fedcli.randomness import stream_seed

DATA = "encoded/data"
_BUFFERS = "encoded/buffers"
_COUNTERS = "encoded/counters"
_CONTROLS = "encoded/control"
_HALF, _SINGLE = np.dtype("<f2"), np.dtype("<f4")

Values = Mapping[str, Array]


@dataclass(frozen=True)
class Parts:
    """The tensors of an update by what is done with them, in the order of its layout."""

    parameters: tuple[str, ...]
    controls: tuple[str, ...]
    buffers: tuple[str, ...]
    counters: tuple[str, ...]

    @classmethod
    def of(cls, layout: Layout, roles: Mapping[str, Role]) -> "Parts":
        """Sort the tensors of a layout."""
        floats = [name for name, info in layout.items() if is_float(info.dtype)]
        role = {name: roles.get(name, Role.PARAMETER) for name in layout}

        def those(wanted: Role) -> tuple[str, ...]:
            return tuple(name for name in floats if role[name] == wanted)

        return cls(
            those(Role.PARAMETER),
            those(Role.CONTROL),
            tuple(n for n in floats if role[n] not in (Role.PARAMETER, Role.CONTROL)),
            tuple(name for name, info in layout.items() if not is_float(info.dtype)),
        )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The tensors that are encoded as one vector, by the start of its tensors' names."""
        return {"encoded": self.parameters} | ({_CONTROLS: self.controls} if self.controls else {})


def vector_of(layout: Layout, names: tuple[str, ...], run_seed: int, round_number: int) -> Vector:
    """Return the vector of some tensors of an update of a round."""
    sizes = tuple(math.prod(layout[name].shape) for name in names)
    return Vector(sizes, stream_seed(run_seed, round_number, "encoding"))


def flat(values: Values, names: tuple[str, ...]) -> Steps:
    """Return tensors as one float32 vector."""
    pieces = [as_float(values[name]).astype(np.float32).reshape(-1) for name in names]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def tensors_of(encoded: Encoded, prefix: str) -> dict[str, Array]:
    """Return the tensors of an encoded vector, without empty ones."""
    found: dict[str, Array] = {f"{prefix}/data": encoded.data}
    if encoded.table.size:
        found[f"{prefix}/table"] = encoded.table
    if encoded.scales.size:
        found[f"{prefix}/scales"] = encoded.scales
    return found


def others_of(parts: Parts, values: Values, base: Values) -> dict[str, Array]:
    """Return what no codec encodes: changes of buffers in half precision, and counters.

    Buffers whose change overflows half precision are sent in single precision.
    """
    found: dict[str, Array] = {}
    if parts.buffers:
        change = flat(values, parts.buffers) - flat(base, parts.buffers)
        with np.errstate(over="ignore"):
            half = change.astype(_HALF)
        found[_BUFFERS] = half if np.isfinite(half).all() else change
    if parts.counters:
        numbers = [values[name].astype(np.int64).reshape(-1) for name in parts.counters]
        found[_COUNTERS] = np.concatenate(numbers)
    return found


class EncodedVector:
    """An encoded vector in an open file; its bytes are read and decoded chunk by chunk."""

    def __init__(self, file: TensorFile, prefix: str, codec: Codec, vector: Vector) -> None:
        """Read the table and the scales. Raises ``ValueError`` for a file that cannot be right."""
        self._file, self._codec, self.vector = file, codec, vector
        chunks = vector.chunks
        table = _read(file, f"{prefix}/table", np.dtype("<i4"), (chunks, codec.columns))
        scales = _read(file, f"{prefix}/scales", _SINGLE, (codec.scale_count(vector),))
        self._table, self._scales = table, scales
        lengths = codec.lengths(table, vector)
        self._ends = [0, *np.cumsum(lengths).tolist()]
        _check(file, f"{prefix}/data", (np.dtype("u1"),), (self._ends[-1],))
        self._start = file.layout[f"{prefix}/data"].start

    def read(self, first: int, into: Steps) -> None:
        """Fill ``into`` with the steps from ``first`` on. Raises ``ValueError`` for bad bytes."""
        stop = first + len(into)
        for index in range(first // CHUNK, -(-stop // CHUNK)):
            start = index * CHUNK
            values = self._chunk(index)
            low, high = max(first, start), min(stop, start + len(values))
            into[low - first : high - first] = values[low - start : high - start]

    def _chunk(self, index: int) -> Steps:
        data = np.empty(self._ends[index + 1] - self._ends[index], np.uint8)
        self._file.read_stored(data.data, self._start + self._ends[index])
        first, size = index * CHUNK, int(self.vector.chunk_sizes[index])
        row = self._table[index]
        values = _SCRATCH.array()[:size]
        self._codec.read(Chunk(self.vector, first, size, row, data, self._scales), values)
        return values


class _Scratch(threading.local):
    """One chunk of values, which each thread reuses: touching fresh memory is slow."""

    def __init__(self) -> None:
        self._values = np.empty(CHUNK, np.float32)

    def array(self) -> Steps:
        return self._values


_SCRATCH = _Scratch()


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
    ) -> None:
        """``layout`` and ``roles`` are those of the update decoded; ``seed`` is run seed and round.

        Raises ``ValueError`` for a file whose tensors are not those of such an update.
        """
        self._layout, self._roles, self._base = layout, roles, base
        self._names, self._starts = list(layout), [info.start for info in layout.values()]
        parts = Parts.of(layout, roles)
        self._counters = self._small(file, parts.counters, _COUNTERS, (np.dtype("<i8"),))
        self._buffers = self._small(file, parts.buffers, _BUFFERS, (_HALF, _SINGLE))
        self._vectors = {
            prefix: EncodedVector(file, prefix, codec, vector_of(layout, names, *seed))
            for prefix, names in parts.groups.items()
        }
        self._firsts = {
            name: first
            for names in (*parts.groups.values(), parts.buffers, parts.counters)
            for name, first in zip(names, _firsts(layout, names), strict=True)
        }
        self._check_all_known(file)

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
        _check(file, name, dtypes, (size,))
        return file.stored(name)

    def _check_all_known(self, file: TensorFile) -> None:
        known = {
            f"{prefix}/{end}" for prefix in self._vectors for end in ("table", "scales", "data")
        }
        if other := sorted(file.layout.keys() - known - {_BUFFERS, _COUNTERS}):
            raise ValueError(f"has a tensor {other[0]!r} that its encoding does not have")

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) with the tensors, starting ``offset`` bytes into their layout.

        Raises ``ValueError`` for bytes that cannot be decoded.
        """
        for name, info, first, count, place in self._pieces(offset, len(buffer)):
            values = self._values(name, info, first, count)
            end = place + count * info.dtype.itemsize
            buffer[place:end] = np.ascontiguousarray(values).view(np.uint8).data

    def _pieces(self, offset: int, size: int) -> Iterator[tuple[str, TensorInfo, int, int, int]]:
        """Yield name, position, first value, number of values and place in the buffer."""
        index = bisect_right(self._starts, offset) - 1
        for name in self._names[index:]:
            info = self._layout[name]
            start, stop = max(info.start, offset), min(info.stop, offset + size)
            if info.start >= offset + size:
                return
            if start < stop:
                width = info.dtype.itemsize
                yield (
                    name,
                    info,
                    (start - info.start) // width,
                    (stop - start) // width,
                    start - offset,
                )

    def _values(self, name: str, info: TensorInfo, first: int, count: int) -> Array:
        at = self._firsts[name] + first
        if not is_float(info.dtype):
            return self._counters[at : at + count].astype(info.dtype)
        steps = np.empty(count, np.float32)
        role = self._roles.get(name, Role.PARAMETER)
        if role == Role.CONTROL:
            self._vectors[_CONTROLS].read(at, steps)
            return _cast(steps, info.dtype)
        if role == Role.PARAMETER:
            self._vectors["encoded"].read(at, steps)
        else:
            steps[...] = self._buffers[at : at + count]
        return add_step(self._base_values(name, first, count), steps)

    def _base_values(self, name: str, first: int, count: int) -> Array:
        info = self._base.layout[name]
        values = np.empty(count, info.dtype)
        start = info.start + first * info.dtype.itemsize
        self._base.read_into(values.view(np.uint8).data, start)
        return values


def add_step(base: Array, steps: Steps) -> Array:
    """Return fl(x + c) in the dtype of the base; a float32 addition for float32."""
    if base.dtype == np.float32:
        with np.errstate(over="ignore"):  # whoever uses it refuses what is not finite
            return np.add(base, steps)
    return _cast(as_float(base).astype(np.float64) + steps, base.dtype)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return from_float(values.astype(np.float64), dtype)


def _firsts(layout: Layout, names: tuple[str, ...]) -> list[int]:
    sizes = [math.prod(layout[name].shape) for name in names]
    return np.cumsum([0, *sizes[:-1]]).tolist() if names else []


def _read(file: TensorFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Read a tensor of known dtype and shape; one without values is not in the file."""
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    _check(file, name, (dtype,), shape)
    return file.stored(name)


def _check(
    file: TensorFile, name: str, dtypes: tuple[np.dtype[Any], ...], shape: tuple[int, ...]
) -> None:
    info = file.layout.get(name)
    if info is None:
        raise ValueError(f"tensor {name!r} is missing")
    if info.dtype not in dtypes or info.shape != shape:
        found = f"{list(info.shape)} of {info.dtype}"
        expected = f"{list(shape)} of {' or '.join(map(str, dtypes))}"
        raise ValueError(f"tensor {name!r}: expected {expected}, found {found}")
