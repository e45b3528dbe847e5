"""An encoded vector in an open file, which is read and decoded chunk by chunk."""

import math
import threading
from typing import Any

import numpy as np

from fedcli.codecs import CHUNK, Chunk, Codec, SparseCodec, Vector
from fedcli.codecs.base import Positions, Steps, check_scales
from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.dtypes import Array
from fedcli.formats.encoded import SINGLE, write_step

_MOST_SENT = CHUNK // 8  # of a chunk that a vector keeps: with their places, 48 kB


class _Scratch(threading.local):
    """The steps of the chunk that a thread decoded last, all of them or those that were sent."""

    def __init__(self) -> None:
        self.whose: tuple[object, int] | None = None
        self.values = np.empty(CHUNK, np.float32)
        self.sender: tuple[object, int] | None = None
        self.sent: tuple[Positions, Steps] = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self.zeros = np.zeros(CHUNK, np.float32)


_SCRATCH = _Scratch()


class EncodedVector:
    """An encoded vector in an open file; its bytes are read and decoded chunk by chunk."""

    def __init__(self, file: TensorFile, prefix: str, codec: Codec, vector: Vector) -> None:
        """Read the table and the scales. Raises ``ValueError`` for a file that cannot be right."""
        self._file, self._codec, self.vector = file, codec, vector
        scales = _read(file, f"{prefix}/scales", SINGLE, (codec.scale_count(vector),))
        table = _read(file, f"{prefix}/table", np.dtype("<i4"), (vector.chunks, codec.columns))
        check_scales(scales)
        self._table, self._scales = table, scales
        lengths = codec.lengths(table, vector)
        self._sizes: list[int] = vector.chunk_sizes.tolist()
        self._ends = [0, *np.cumsum(lengths).tolist()]
        check_tensor(file, f"{prefix}/data", (np.dtype("u1"),), (self._ends[-1],))
        self._start = file.layout[f"{prefix}/data"].start
        self._last: tuple[int, Array, Steps] | None = None

    def write(self, into: Array, base: Array | None, first: int) -> None:
        """Fill ``into`` with fl(x + c) for the steps from ``first`` on; see ``write_step``.

        Raises ``ValueError`` for bad bytes.
        """
        done = 0
        while done < len(into):
            index, start = divmod(first + done, CHUNK)
            part = slice(done, min(len(into), done + CHUNK - start))
            self._write(into[part], None if base is None else base[part], index, start)
            done = part.stop

    def _write(self, into: Array, base: Array | None, index: int, start: int) -> None:
        stop = start + len(into)
        if not isinstance(self._codec, SparseCodec):
            write_step(into, base, self._dense(self._codec, index)[start:stop])
            return
        at, steps = self._sent_between(index, start, stop)
        write_step(into, base, _SCRATCH.zeros[: len(into)])
        own = into[at]
        write_step(own, None if base is None else base[at], steps)
        into[at] = own

    @property
    def sparse(self) -> bool:
        """Whether only some coordinates were sent."""
        return isinstance(self._codec, SparseCodec)

    def sent(self, first: int, count: int) -> tuple[Positions, Steps]:
        """Return which coordinates after ``first`` were sent, of a sparse codec, and their steps.

        Raises ``ValueError`` for bad bytes.
        """
        index, start = divmod(first, CHUNK)
        if not count:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        if start + count <= CHUNK:
            return self._sent_between(index, start, start + count)
        found = []
        for place in range(index, -(-(first + count) // CHUNK)):
            start = place * CHUNK - first
            at, steps = self._sent_between(place, max(0, -start), count - start)
            found.append((at + max(0, start), steps))
        places, values = zip(*found, strict=True)
        return np.concatenate(places), np.concatenate(values)

    def _sent_between(self, index: int, start: int, stop: int) -> tuple[Positions, Steps]:
        if not start and stop >= self._sizes[index]:
            return self._decoded(index)
        places, steps = self._kept(index)
        low, high = np.searchsorted(places, (start, min(stop, CHUNK)))
        return places[low:high].astype(np.int64) - start, steps[low:high]

    def _dense(self, codec: Codec, index: int) -> Steps:
        values = _SCRATCH.values[: self._sizes[index]]
        if _SCRATCH.whose != (self, index):
            _SCRATCH.whose = None  # what follows may raise
            codec.read(self._chunk(index), values)
            _SCRATCH.whose = self, index
        return values

    def _kept(self, index: int) -> tuple[Array, Steps]:
        """Decode a chunk of which a part is needed, since the next part is read soon."""
        if self._last is not None and self._last[0] == index:
            return self._last[1:]
        if _SCRATCH.sender != (self, index):
            _SCRATCH.sent, _SCRATCH.sender = self._decoded(index), (self, index)
        places, steps = _SCRATCH.sent
        if len(places) <= _MOST_SENT:
            self._last = index, places.astype(np.uint16), steps
        return places, steps

    def _decoded(self, index: int) -> tuple[Positions, Steps]:
        assert isinstance(self._codec, SparseCodec)
        return self._codec.sent(self._chunk(index))

    def _chunk(self, index: int) -> Chunk:
        data = np.empty(self._ends[index + 1] - self._ends[index], np.uint8)
        self._file.read_stored(data.data, self._start + self._ends[index])
        size = self._sizes[index]
        return Chunk(self.vector, index * CHUNK, size, self._table[index], data, self._scales)

    def forget(self) -> None:
        """Free what it keeps to read faster."""
        self._last = None


def _read(file: TensorFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Read a tensor of known dtype and shape; one without values is not in the file."""
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    check_tensor(file, name, (dtype,), shape)
    return file.stored(name)


def check_tensor(
    file: TensorFile, name: str, dtypes: tuple[np.dtype[Any], ...], shape: tuple[int, ...]
) -> None:
    """Raise ``ValueError`` for a tensor that is missing, or has another dtype or shape."""
    info = file.layout.get(name)
    if info is None:
        raise ValueError(f"tensor {name!r} is missing")
    if info.dtype not in dtypes or info.shape != shape:
        found = f"{list(info.shape)} of {info.dtype}"
        expected = f"{list(shape)} of {' or '.join(map(str, dtypes))}"
        raise ValueError(f"tensor {name!r}: expected {expected}, found {found}")
