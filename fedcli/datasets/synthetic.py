"""``synthetic``: generated pictures of ten shapes, with random position, size, colour, background.

It needs no files and no network, and is the same on every machine: all arithmetic is on integers,
all random numbers are raw words of a counter-based generator (Philox), one stream per picture.

A shape has the usual colour of its class in about half of its pictures, so that colour helps early
in training but is not enough, else a random colour. A strip covers part of it, and noise is added.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedcli.datasets.base import DataOptions, Dataset, Indices, Part
from fedcli.errors import UsageError

VERSION = 1  # increase it with any change to the pictures
SIDE = 32
TRAIN_EXAMPLES, TEST_EXAMPLES = 6000, 1000

Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

_KEY = 0xFEDC11
_WORDS = 16 + SIDE * SIDE * 3 // 8  # per picture: its parameters, and a byte of noise per value


def _square(u: Ints, v: Ints, side: int) -> Mask:
    return np.maximum(abs(u), abs(v)) <= side


def _disc(u: Ints, v: Ints, radius: int) -> Mask:
    return u * u + v * v <= radius * radius


# A shape is a function of coordinates from -100 to 100.
SHAPES: dict[str, Callable[[Ints, Ints], Mask]] = {
    "disc": lambda u, v: _disc(u, v, 95),
    "ring": lambda u, v: _disc(u, v, 100) & ~_disc(u, v, 58),
    "square": lambda u, v: _square(u, v, 84),
    "frame": lambda u, v: _square(u, v, 90) & ~_square(u, v, 50),
    "diamond": lambda u, v: abs(u) + abs(v) <= 115,
    "plus": lambda u, v: _square(u, v, 100) & (np.minimum(abs(u), abs(v)) <= 30),
    "cross": lambda u, v: _square(u, v, 90) & (np.minimum(abs(u - v), abs(u + v)) <= 42),
    "triangle": lambda u, v: (v <= 80) & (2 * abs(u) <= v + 105),
    "bars": lambda u, v: _square(u, v, 90) & ((abs(v) <= 22) | (abs(v) >= 58)),
    "crescent": lambda u, v: _disc(u, v, 100) & ~_disc(u - 50, v, 80),
}
_USUAL_COLOURS = np.array(
    [
        (235, 25, 25), (25, 200, 25), (25, 25, 235), (235, 235, 25), (235, 25, 235),
        (25, 235, 235), (245, 245, 245), (10, 10, 10), (245, 135, 15), (135, 15, 245),
    ],
    np.int32,
)  # fmt: skip
_USUAL = 120  # of 256 shapes have their class's usual colour
_LOWEST, _SPAN = 70, 116  # of background values
_BRIGHT = 200  # a colour channel of a shape is at least this bright, or at most 255 minus this
_NOISE = 30  # the largest deviation of a value


def _words(part: int, indices: Indices) -> NDArray[np.uint64]:
    """Return the random words of each picture: (n, _WORDS)."""
    streams = (np.random.Philox(key=[_KEY + part, int(index)]) for index in indices)
    return np.stack([stream.random_raw(_WORDS) for stream in streams])


def draw(part: int, indices: Indices, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw pictures of these classes: (n, 3, 32, 32). ``part`` is 0 for training, 1 for test."""
    words = _words(part, indices)
    chance = words[:, :16].astype("<u8").view(np.uint8).astype(np.int32)  # (n, 128) of 0…255
    noise = words[:, 16:].astype("<u8").view(np.uint8).reshape(-1, 3, SIDE, SIDE).astype(np.int32)
    ground = _ground(chance[:, :16])
    ink = _ink(chance[:, 16:32], labels)
    mask = _masks(chance[:, 32:48], labels)
    picture = np.where(mask[:, None], ink[:, :, None, None], ground)
    picture = _strip(picture, chance[:, 48:64])
    picture += (noise - 128) * _NOISE // 128
    return picture.clip(0, 255).astype(np.uint8)


def _column(values: Ints) -> Ints:
    return values.reshape(-1, 1, 1)


def _ground(chance: Ints) -> Ints:
    """Return backgrounds that fade from one colour to another: (n, 3, 32, 32)."""
    muted = _LOWEST + chance[:, :6, None, None] * _SPAN // 256
    first, second = muted[:, :3], muted[:, 3:]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32)
    ramp = np.where(_column(chance[:, 6] % 2 == 0), x, y)[:, None]
    picture: Ints = (first * (SIDE - 1 - ramp) + second * ramp) // (SIDE - 1)
    return picture


def _ink(chance: Ints, labels: NDArray[np.int64]) -> Ints:
    """Return the colour of each shape: (n, 3)."""
    usual = chance[:, 0] < _USUAL
    bright = chance[:, 1:4] % 2 * _BRIGHT
    other = bright + chance[:, 4:7] * (256 - _BRIGHT) // 256
    return np.where(usual[:, None], _USUAL_COLOURS[labels], other)


def _masks(chance: Ints, labels: NDArray[np.int64]) -> Mask:
    """Return the mask of each shape: (n, 32, 32)."""
    # Lengths are in half pixels, so that a centre may lie between two pixels.
    radius = 14 + chance[:, 0] % 9
    reach = SIDE // 2 - radius // 2  # the largest offset of a centre
    across, down = (SIDE - reach + chance[:, one] % (2 * reach + 1) for one in (1, 2))
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32) * 2 + 1
    u = (x - _column(across)) * 100 // _column(radius)
    v = (y - _column(down)) * 100 // _column(radius)
    mask = np.zeros(u.shape, np.bool_)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        mask[rows] = shape(u[rows], v[rows])
    return mask


def _strip(picture: Ints, chance: Ints) -> Ints:
    """Cover a strip of each picture with one colour."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32)
    along = np.where(_column(chance[:, 0] % 2 == 0), x, y)
    start = _column(chance[:, 1] % SIDE)
    covered = (along >= start) & (along < start + 2 + _column(chance[:, 2] % 3))
    return np.where(covered[:, None], chance[:, 3:6, None, None], picture)


def load(argument: str, options: DataOptions) -> Dataset:
    """Return the data set: 6000 training and 1000 test pictures, balanced over the classes."""
    if options.image_size not in (None, SIDE):
        raise UsageError(f"--image-size {options.image_size}: synthetic pictures are 32×32")
    if options.window is not None:
        raise UsageError("--window: synthetic pictures have 8 bits; it is for your own data")
    return Dataset(
        "synthetic", tuple(SHAPES), (3, SIDE, SIDE), np.dtype("u1"),
        _part(0, TRAIN_EXAMPLES), _part(1, TEST_EXAMPLES), {"version": VERSION},
    )  # fmt: skip


def _part(part: int, count: int) -> Part:
    labels = np.arange(count, dtype=np.int64) % len(SHAPES)
    return Part(labels, lambda indices: draw(part, indices, labels[indices]))
