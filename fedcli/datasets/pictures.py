"""Convert pictures of any Pillow format and size to uint8 arrays of one shape."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fedcli.errors import DataError

Picture = NDArray[np.uint8]
Shape = tuple[int, ...]
Value = TypeVar("Value")
Item = TypeVar("Item")

_LARGEST_DEFAULT_SIDE = 224  # the input size of ImageNet networks
_MODES = {1: "L", 3: "RGB"}


def extensions() -> frozenset[str]:
    """Return the file name extensions that Pillow can open, in lower case."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, name in known.items() if name in Image.OPEN)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert grey, colour, palette, transparent and 16-bit pictures to ``L`` or ``RGB``.

    Transparency is dropped; 16-bit pictures keep their upper eight bits.
    Raises ``ValueError`` for floating-point pixels, whose range is unknown.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P":  # on a direct conversion to RGB, Pillow warns about transparency
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize a picture to just cover height × width, antialiased bilinear, and crop its centre."""
    if image.size == (width, height):
        return image
    scale = max(height / image.height, width / image.width)
    across, down = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    if (across, down) != image.size:
        image = image.resize((across, down), Image.Resampling.BILINEAR)
    left, top = (across - width) // 2, (down - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_array(image: Image.Image, shape: Shape) -> Picture:
    """Return a picture as a uint8 array of ``shape`` (C, H, W), where C is 1 or 3."""
    channels, height, width = shape
    image = fit(to_mode(image, _MODES[channels]), height, width)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def load(path: Path, shape: Shape) -> Picture:
    """Decode a file to a uint8 array of ``shape``. Raises ``DataError`` that names the file."""
    return _opened(path, lambda image: as_array(ImageOps.exif_transpose(image), shape))


def default_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture, scaled down to a shorter side of 224 if larger."""
    return _opened(path, lambda image: limited_size(ImageOps.exif_transpose(image)))


def limited_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width, scaled down to a shorter side of 224 if larger."""
    scale = min(1.0, _LARGEST_DEFAULT_SIDE / min(image.size))
    return round(image.height * scale), round(image.width * scale)


def _opened(path: Path, use: Callable[[Image.Image], Value]) -> Value:
    try:
        with Image.open(path) as image:
            return use(image)
    except Exception as error:  # Pillow's decoders raise many types; all mean a bad file
        reason = str(error).replace(repr(str(path)), "it")
        raise DataError(f"is a picture that cannot be decoded: {reason}", path=path) from error


def each(use: Callable[[Item], Value], items: Sequence[Item], *, threads: int) -> list[Value]:
    """Return ``use`` of every item, in their order; ``threads`` work on them."""
    if threads == 1:
        return list(map(use, items))
    size = -(-len(items) // threads) or 1
    pieces = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda piece: list(map(use, piece)), pieces)
        return [value for piece in found for value in piece]


def stack(decode: Callable[[int], Picture], count: int, shape: Shape, *, threads: int) -> Picture:
    """Collect ``decode(0)`` … ``decode(count - 1)`` in one uint8 array (N, C, H, W)."""
    collected = np.empty((count, *shape), np.uint8)

    def fill(first: int) -> None:
        for index in range(first, count, threads):
            collected[index] = decode(index)

    if threads == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(threads)))
    return collected
