"""What an encoding of updates is: a flat vector of float32 values, coded in chunks.

A codec turns the vector into a table of integers with a row for each chunk, a stream of bytes, and
scales. A chunk decodes from its own bytes alone, so that readers hold one chunk at a time.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

CHUNK = 65_536  # coordinates; the float32 values of a chunk take 256 kB

Steps = NDArray[np.float32]
Table = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Vector:
    """The coordinates that a codec encodes: the parameters of an update, one after another.

    ``sizes`` are the numbers of values of its tensors. ``seed`` is what all parties draw
    coordinates from; it is public.
    """

    sizes: tuple[int, ...]
    seed: int = 0

    @cached_property
    def size(self) -> int:
        """The number of coordinates."""
        return sum(self.sizes)

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.size // CHUNK)

    @cached_property
    def chunk_sizes(self) -> NDArray[np.int64]:
        """The number of coordinates of every chunk: ``CHUNK``, but for the last."""
        firsts = np.arange(self.chunks, dtype=np.int64) * CHUNK
        return np.minimum(self.size - firsts, CHUNK)

    def share(self, share: float) -> int:
        """Return the number of coordinates in a share of them, rounded up; the share is decimal."""
        return math.ceil(Fraction(str(share)) * self.size)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first coordinate of every tensor."""
        return np.cumsum((0, *self.sizes[:-1]), dtype=np.int64)


@dataclass(frozen=True)
class Encoded:
    """An encoded vector: ``table`` has shape (chunks, columns of the codec)."""

    table: Table
    data: Bytes
    scales: Steps


@dataclass(frozen=True)
class Chunk:
    """One chunk to decode: its coordinates from ``first`` on, its row, bytes, and all scales."""

    vector: Vector
    first: int
    size: int
    row: Table
    data: Bytes
    scales: Steps


@dataclass(frozen=True)
class Codec(ABC):
    """An encoding. Its dataclass fields, with ``name``, are its JSON.

    ``sparse`` codecs leave most coordinates 0. ``columns`` is the width of the table.
    """

    name: ClassVar[str]
    sparse: ClassVar[bool] = False
    columns: ClassVar[int] = 0

    @abstractmethod
    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """Encode finite steps. Raises ``ValueError`` for steps that the codec cannot hold."""

    @abstractmethod
    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """Return the number of bytes of every chunk. Raises ``ValueError`` for a bad table."""

    @abstractmethod
    def scale_count(self, vector: Vector) -> int:
        """Return the number of scales."""

    def read(self, chunk: Chunk, into: Steps) -> None:
        """Fill ``into`` with the steps of a chunk, which are finite.

        The scales have been checked. Raises ``ValueError`` for bad bytes.
        """
        with np.errstate(over="ignore"):
            self.decode(chunk, into)
        check_finite(into)

    @abstractmethod
    def decode(self, chunk: Chunk, into: Steps) -> None:
        """Fill ``into`` with the steps of a chunk. Raises ``ValueError`` for most bad bytes."""

    def __str__(self) -> str:
        """Return how ``--encode`` names it, such as ``topk=0.03,float16``."""
        values = [str(value) for key, value in self.as_json().items() if key != "name"]
        return self.name + ("=" + ",".join(values) if values else "")

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that describes it."""
        return {"name": self.name, **asdict(self)}


def check_finite(steps: Steps) -> None:
    """Raise ``ValueError`` for steps that are NaN or infinite."""
    if not np.isfinite(steps).all():
        raise ValueError("a value of the update is NaN or infinite")


def check_scales(scales: Steps) -> None:
    """Raise ``ValueError`` for scales that are NaN, infinite or negative."""
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("a scale is NaN, infinite or negative")


def largest(steps: Steps, count: int) -> Positions:
    """Return the positions of the ``count`` largest magnitudes, ascending; ties go to lower ones.

    Exactly ``count`` positions are returned, zeros among them if there is nothing larger.
    """
    magnitudes = np.abs(steps)
    least = _least(magnitudes, count)
    chosen = magnitudes > least
    ties = np.flatnonzero(magnitudes == least)
    chosen[ties[: count - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)


def _least(magnitudes: Steps, count: int) -> np.float32:
    """Return the smallest of the ``count`` largest magnitudes."""
    some = magnitudes[magnitudes > 0]  # partitioning is slow where many are equal
    if count > len(some):
        return np.float32(0)
    place = len(some) - count
    least: np.float32 = np.partition(some, place)[place]
    return least


def split(positions: Positions, vector: Vector) -> list[slice]:
    """Return which of the ascending positions lie in each chunk."""
    edges = np.searchsorted(positions, np.arange(vector.chunks + 1, dtype=np.int64) * CHUNK)
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
