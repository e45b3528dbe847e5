"""``round=F``: the largest steps, rounded to multiples of twice the smallest of them.

A uniform quantiser with a dead zone: sparse, ternary and of few bits in one, with the indices and
levels entropy-coded. Sullivan (1996), "Efficient scalar quantization of exponential and Laplacian
random variables"; Sattler et al. (2019) for sparse ternary updates.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import (
    CHUNK,
    Chunk,
    Encoded,
    Positions,
    Steps,
    Table,
    Vector,
    check_finite,
    largest,
    split,
)
from fedcli.codecs.bits import fixed, read_signs, read_unary, unary
from fedcli.codecs.sparse import COLUMNS, SparseCodec, code_places, place_lengths, read_places

_MEANS = 3  # levels that decode to the mean of their steps
_MOST_LEVEL = 2**15 - 1
_FEW_LEVELS = 64
_MOST_LEVEL_BYTES = 8 * CHUNK  # of a chunk, so that a reader needs little memory


@cache
def _all_levels() -> Steps:
    """Return 1, -1, 2, -2 and so on."""
    levels = np.repeat(np.arange(1, _MOST_LEVEL + 1, dtype=np.float32), 2)
    levels[1::2] *= -1
    return levels


@dataclass(frozen=True)
class Round(SparseCodec):
    """Send the ``share`` of the coordinates with the largest steps, as integer levels.

    Fewer are sent where fewer are not 0. τ is the smallest magnitude sent and Δ = 2τ; a level is
    max(1, rint(|p| / Δ)). Levels 1 to 3 decode to the mean magnitude of their steps, higher ones to
    multiples of Δ.
    """

    share: float

    name: ClassVar[str] = "round"
    columns: ClassVar[int] = COLUMNS + 1  # and the bytes of the levels

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        positions = largest(steps, vector.share(self.share))
        positions = positions[steps[positions] != 0]
        sent = steps[positions]
        with np.errstate(over="ignore"):  # refused below
            step = np.float32(2) * np.abs(sent).min(initial=np.float32(np.inf))
        levels, scales = _levels(np.abs(sent), step)
        rows, pieces = [], []
        for index, part in enumerate(split(positions, vector)):
            places = code_places(positions[part], index * CHUNK)
            heights = unary(levels[part] - 1)
            if len(heights) > _MOST_LEVEL_BYTES:
                raise _too_uneven(self.share)
            rows.append((*places.row, len(heights)))
            pieces += [places.data, heights, fixed(np.signbit(sent[part]).astype(np.int64), 1)]
        table = np.array(rows, np.int32).reshape(vector.chunks, self.columns)
        return Encoded(table, np.concatenate(pieces), scales)

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        counts, levels = table[:, 0].astype(np.int64), table[:, COLUMNS].astype(np.int64)
        if ((levels < 0) | (levels > _MOST_LEVEL_BYTES)).any():
            raise ValueError("a row of the table of its encoding is impossible")
        return place_lengths(table, vector) + levels + -(-counts // 8)

    def scale_count(self, vector: Vector) -> int:
        """Return the number of scales: Δ and the means."""
        return 1 + _MEANS

    def sent(self, chunk: Chunk) -> tuple[Positions, Steps]:
        """See ``SparseCodec``."""
        places, rest = read_places(chunk)
        heights = int(chunk.row[COLUMNS])
        above = read_unary(rest[:heights], len(places))  # how far levels are above 1
        most = int(above.max(initial=0)) + 1
        if most > _MOST_LEVEL:
            raise ValueError(f"a level of its encoding is above {_MOST_LEVEL}")
        above <<= 1
        above |= read_signs(rest[heights:], len(places)).view(np.uint8)
        steps = _table(most, chunk.scales).take(above)
        check_finite(steps)
        return places, steps


def _levels(magnitudes: Steps, step: np.float32) -> tuple[Positions, Steps]:
    """Return the levels of magnitudes, and Δ with the mean magnitude of each low level."""
    scales = np.zeros(1 + _MEANS, np.float32)
    if not len(magnitudes):
        return np.zeros(0, np.int64), scales
    if not np.isfinite(step):
        raise ValueError("the steps are too large to be rounded")
    levels = np.maximum(1, np.rint(magnitudes / step)).astype(np.int64)
    if levels.max() > _MOST_LEVEL:
        raise ValueError(
            f"its largest value is more than {_MOST_LEVEL} times the smallest that is sent"
        )
    scales[0] = step
    for level in range(1, _MEANS + 1):
        its = magnitudes[levels == level]
        scales[level] = its.mean(dtype=np.float64) if len(its) else level * step
    return levels, scales


def _table(most: int, scales: Steps) -> Steps:
    if most > _FEW_LEVELS:
        return _values(most, scales)
    return _few_values(scales.tobytes())


@lru_cache(maxsize=1024)
def _few_values(scales: bytes) -> Steps:
    """Return what low levels stand for; the chunks of an update have the same scales."""
    return _values(_FEW_LEVELS, np.frombuffer(scales, np.float32))


def _values(most: int, scales: Steps) -> Steps:
    """Return what the levels 1 to ``most`` stand for, each followed by its negative."""
    with np.errstate(over="ignore"):  # a level that is sent is refused then
        values: Steps = _all_levels()[: 2 * max(most, _MEANS)] * scales[0]
    values[: 2 * _MEANS : 2] = scales[1:]
    values[1 : 2 * _MEANS : 2] = -scales[1:]
    return values


def _too_uneven(share: float) -> ValueError:
    return ValueError(f"its values are too uneven for round={share:g}; a smaller share may do")
