"""Error feedback: what an encoding loses is kept, and added to the steps of the next round.

Seide et al. (2014), "1-bit stochastic gradient descent"; Stich, Cordonnier, Jaggi (2018),
"Sparsified SGD with memory"; Karimireddy et al. (2019), "Error feedback fixes SignSGD".
"""

from collections.abc import Iterator

import numpy as np

from fedcli.codecs.base import CHUNK, Chunk, Codec, Encoded, Steps, Vector


def decode_all(codec: Codec, encoded: Encoded, vector: Vector) -> Steps:
    """Return the float32 steps c that an encoded vector stands for."""
    steps = np.empty(vector.size, np.float32)
    for chunk in _chunks(codec, encoded, vector):
        codec.read(chunk, steps[chunk.first : chunk.first + chunk.size])
    return steps


def residual(steps: Steps, sent: Steps, feedback: float) -> Steps:
    """Return fl32(λ(p − c)) for steps p of which c were sent, computed in float64."""
    left = np.empty_like(steps)
    for first in range(0, len(steps), CHUNK):
        part = slice(first, first + CHUNK)
        left[part] = feedback * (steps[part].astype(np.float64) - sent[part])
    return left


def _chunks(codec: Codec, encoded: Encoded, vector: Vector) -> Iterator[Chunk]:
    ends = [0, *np.cumsum(codec.lengths(encoded.table, vector)).tolist()]
    for index, size in enumerate(vector.chunk_sizes.tolist()):
        data = encoded.data[ends[index] : ends[index + 1]]
        yield Chunk(vector, index * CHUNK, size, encoded.table[index], data, encoded.scales)
