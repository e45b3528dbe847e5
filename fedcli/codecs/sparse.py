"""What the codecs that send chosen coordinates share: the table, and the coded positions."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import Bytes, Chunk, Codec, Positions, Steps, Table, Vector
from fedcli.codecs.bits import Gaps, gaps_of, read_gaps

COLUMNS = 3  # values of the chunk, Rice parameter, bytes of the unary stream
_MOST_PARAMETER = 16  # a gap is below 2^16


class SparseCodec(Codec):
    """A codec that sends chosen coordinates; the steps of the others are 0."""

    sparse: ClassVar[bool] = True

    @abstractmethod
    def sent(self, chunk: Chunk) -> tuple[Positions, Steps]:
        """Return the places within a chunk that were sent, ascending, and their finite steps.

        Raises ``ValueError`` for bad bytes.
        """

    def decode(self, chunk: Chunk, into: Steps) -> None:
        """See ``Codec``."""
        places, steps = self.sent(chunk)
        into[...] = 0
        into[places] = steps


@dataclass(frozen=True)
class Places:
    """The positions of one chunk: its row of the table, and its bytes."""

    row: tuple[int, int, int]
    data: Bytes


def code_places(positions: Positions, first: int) -> Places:
    """Code ascending positions of the chunk that starts at ``first``."""
    gaps = gaps_of(positions - first)
    row = (len(positions), gaps.parameter, len(gaps.unary))
    return Places(row, np.concatenate([gaps.unary, gaps.low]))


def place_lengths(table: Table, vector: Vector) -> NDArray[np.int64]:
    """Return the bytes of every chunk's positions. Raises ``ValueError`` for a bad table."""
    counts, parameters, unary = table[:, :COLUMNS].astype(np.int64).T
    sizes = vector.chunk_sizes
    if (counts < 0).any() or (counts > sizes).any():
        raise ValueError("a chunk of its encoding has more values than coordinates")
    # The quotients of all gaps add up to less than the coordinates of the chunk.
    most = (counts + (sizes >> np.clip(parameters, 0, _MOST_PARAMETER)) + 7) // 8
    if ((parameters < 0) | (parameters > _MOST_PARAMETER) | (unary < 0) | (unary > most)).any():
        raise ValueError("a row of the table of its encoding is impossible")
    lengths: NDArray[np.int64] = unary + -(-counts * parameters // 8)
    return lengths


def read_places(chunk: Chunk) -> tuple[Positions, Bytes]:
    """Return the places within a chunk, and the bytes after them."""
    count, parameter, length = chunk.row[:COLUMNS].tolist()
    low = -(-count * parameter // 8)
    gaps = Gaps(parameter, chunk.data[:length], chunk.data[length : length + low])
    return read_gaps(gaps, count, chunk.size), chunk.data[length + low :]
