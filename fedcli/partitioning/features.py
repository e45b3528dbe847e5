"""Feature skew: all clients have the same classes, but each client's pictures look different.

A change takes decoded examples (n, …) and their indices (n,) in the data set, and returns examples
of the same shape and dtype. It depends only on the run's seed, the client, the part of the data
set and these indices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedcli.errors import UsageError
from fedcli.formats.dtypes import Array
from fedcli.options import Option
from fedcli.partitioning.pool import Indices
from fedcli.partitioning.sizes import TO_A_MILLION
from fedcli.randomness import stream_seed

Change = Callable[[Array, Indices], Array]


@dataclass(frozen=True)
class Place:
    """The owner of the changed examples: client ``number`` of ``clients``, in a run with ``seed``.

    ``part`` is ``train`` or ``test``; ``shape`` is that of one example.
    """

    number: int
    clients: int
    seed: int
    part: str
    shape: tuple[int, ...]


def noise(
    place: Place,
    *,
    sigma: Annotated[
        float,
        Option(
            "Variance of the last client's noise, where pixels are from 0 to 1.",
            "S",
            above=0,
            at_most=TO_A_MILLION,
        ),
    ] = 0.1,
) -> Change:
    """Add Gaussian noise of variance ``sigma`` · i / N for client i of N, counted from 1.

    Noise on pictures (uint8) is on a scale from 0 to 1, to which they are clipped; other data
    keeps its unit. After Li et al., "Federated Learning on Non-IID Data Silos" (2022), section
    IV-B.
    """
    deviation = np.sqrt(sigma * (place.number + 1) / place.clients)
    key = stream_seed(place.seed, "feature noise", place.part, place.number)

    def change(examples: Array, numbers: Indices) -> Array:
        changed = np.empty_like(examples)
        for i, number in enumerate(numbers):
            # A counter-based generator makes the noise of an example independent of the others.
            draw = np.random.Generator(np.random.Philox(key=[key, int(number)]))
            values = draw.standard_normal(place.shape, np.float32) * np.float32(deviation)
            if examples.dtype == np.uint8:
                values = np.rint(examples[i] + 255 * values).clip(0, 255)
            else:
                values = examples[i] + values
            changed[i] = values.astype(examples.dtype)
        return changed

    return change


def rotation(
    place: Place,
    *,
    angles: Annotated[
        tuple[float, ...],
        Option(
            "Degrees counter-clockwise, such as `0,90,180,270`; clients take them in turn.",
            "LIST",
            unset="0, 360/N, … for N clients",
        ),
    ] = (),
) -> Change:
    """Rotate pictures counter-clockwise: client i by angle i in degrees, cycling through them.

    The default angles for N clients are 0, 360 / N, …. After Ghosh et al., "An Efficient Framework
    for Clustered Federated Learning" (2020), section 6.

    Raises ``UsageError`` for examples that are not pictures (C, H, W), and for more angles than
    clients.
    """
    if len(angles) > place.clients:
        raise UsageError(
            f"--angles: expected at most {place.clients}, one for each client, found {len(angles)}"
        )
    if len(place.shape) != 3:
        raise UsageError(
            f"--scheme feature-rotate: expected pictures, found examples of {list(place.shape)}"
        )
    turns = angles or [360 * client / place.clients for client in range(place.clients)]
    degrees = turns[place.number % len(turns)] % 360
    return lambda examples, numbers: rotated(examples, degrees)


def rotated(pictures: Array, degrees: float) -> Array:
    """Rotate pictures (…, H, W) counter-clockwise about their centre, keeping their size.

    Quarter turns that keep the size are exact; other angles use bilinear interpolation, with
    zeros outside the picture.
    """
    height, width = pictures.shape[-2:]
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0 and (height == width or quarters % 2 == 0):
        return np.rot90(pictures, int(quarters), axes=(-2, -1))
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    rows = x * np.sin(angle) + y * np.cos(angle) + (height - 1) / 2
    columns = x * np.cos(angle) - y * np.sin(angle) + (width - 1) / 2
    return _interpolated(pictures, rows, columns)


def _interpolated(pictures: Array, rows: Array, columns: Array) -> Array:
    """Interpolate values (…, H, W) between pixels; outside there are zeros."""
    height, width = pictures.shape[-2:]
    padded = np.pad(pictures, [(0, 0)] * (pictures.ndim - 2) + [(1, 1), (1, 1)])
    rows, columns = rows.clip(-1, height) + 1, columns.clip(-1, width) + 1
    top = np.minimum(rows.astype(np.int64), height)
    left = np.minimum(columns.astype(np.int64), width)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    upper = padded[..., top, left] * (1 - right) + padded[..., top, left + 1] * right
    lower = padded[..., top + 1, left] * (1 - right) + padded[..., top + 1, left + 1] * right
    values = upper * (1 - down) + lower * down
    if pictures.dtype == np.uint8:
        values = np.rint(values)
    return values.astype(pictures.dtype)
