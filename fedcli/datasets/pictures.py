"""Open pictures in known formats, and convert them to uint8 arrays of one shape.

Pillow chooses a format by the first bytes of a file, whatever its name, and hands some formats to
other programs. So only the formats listed here are ever opened.
"""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fedcli.datasets import medical
from fedcli.datasets.file_kinds import DICOM, kind_of
from fedcli.datasets.windows import RangeError, Window, windowed, without_window
from fedcli.errors import DataError, FedcliError, is_memory_error

Picture = NDArray[np.uint8]
Shape = tuple[int, ...]
Value = TypeVar("Value")
Item = TypeVar("Item")

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MOST_PIXELS = 50_000_000  # of a picture as it is stored, and of what resizing makes of it
_FEW_COLOURS = 32  # of 255: 16-bit colours below it may be 10 to 13 bits in 16
_LARGEST_DEFAULT_SIDE = 224  # the input size of ImageNet networks
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_SERIES = ("GIF", "PNG", "TIFF", "WEBP")  # a JPEG file shows its first picture
_MODES = {1: "L", 3: "RGB"}
_ORIENTATION, _SHORT = 0x0112, 3  # a tag and a type of EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (5, 6, 7, 8)


def restrict_pillow() -> None:
    """Let every picture of this process, also in other libraries, be of ``FORMATS`` and bounded."""
    Image.init()
    Image.ID[:] = [name for name in Image.ID if name in FORMATS]
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses twice as many
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    # Damaged EXIF tags other than the orientation, which is read here, do not matter.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


restrict_pillow()


@cache
def extensions() -> frozenset[str]:
    """Return the file name extensions of ``FORMATS``, in lower case."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, name in known.items() if name in FORMATS)


def is_picture_name(name: str) -> bool:
    """Return whether a file of this name is opened as a picture."""
    return Path(name).suffix.lower() in extensions() or name.lower().endswith(medical.ENDINGS)


def _is_medical(path: Path) -> bool:
    """Return whether a file is DICOM or NIfTI; DICOM files often have other names."""
    return path.name.lower().endswith(medical.ENDINGS) or (
        Path(path).suffix.lower() not in extensions() and kind_of(path) == DICOM
    )


def to_mode(image: Image.Image, mode: str, window: Window | None = None) -> Image.Image:
    """Convert grey, colour, palette, transparent and deep pictures to ``L`` or ``RGB``.

    Transparency is dropped. ``window`` maps pixel values to 0 … 255; without it, 16-bit pictures
    keep their upper eight bits. Raises ``ValueError`` for pixels whose range is unknown.
    """
    if image.mode == "P":  # on a direct conversion to RGB, Pillow warns about transparency
        image = image.convert("RGBA")
    if image.mode not in (*_DEEP, "L"):
        image = image if image.mode in ("1", mode) else image.convert(mode)
    if window is not None:
        grey = image.convert("L") if image.mode == "1" else image
        image = Image.fromarray(windowed(np.asarray(grey), window))
    elif image.mode in _DEEP:
        image = Image.fromarray(_eight_bits(np.asarray(image), image.info.get(medical.RANGE)))
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(pixels: NDArray[Any], known: tuple[float, float] | None) -> Picture:
    if pixels.dtype.kind != "f":
        return without_window(pixels)
    low, high = (float(pixels.min()), float(pixels.max())) if known is None else known
    kind = "floating-point numbers" if known is None else "numbers that may be"
    why = f"its pixels are {kind} from {low:g} to {high:g}"
    raise RangeError(low, high, why)


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize a picture to just cover height × width, antialiased bilinear, and crop its centre."""
    if image.size == (width, height):
        return image
    scale = max(height / image.height, width / image.width)
    across, down = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    if across * down > MOST_PIXELS:
        raise ValueError(
            f"its {image.width}×{image.height} pixels would be resized to {across}×{down} before"
            f" they are cropped; expected at most {MOST_PIXELS // 1_000_000} million pixels"
        )
    if (across, down) != image.size:
        image = image.resize((across, down), Image.Resampling.BILINEAR)
    left, top = (across - width) // 2, (down - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_array(image: Image.Image, shape: Shape, window: Window | None = None) -> Picture:
    """Return a picture as a uint8 array of ``shape`` (C, H, W), where C is 1 or 3."""
    channels, height, width = shape
    image = fit(to_mode(image, _MODES[channels], window), height, width)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def load(path: Path, shape: Shape, window: Window | None = None) -> Picture:
    """Decode a file to a uint8 array of ``shape``. Raises ``DataError`` that names the file."""
    return opened(path, lambda image: decoded(image, shape, window))


def decoded(image: Image.Image, shape: Shape, window: Window | None) -> Picture:
    """Decode an opened picture to a uint8 array of ``shape``. Raises ``ValueError``."""
    if _is_series(image):
        raise ValueError("it holds several pictures; save each that counts as a file of its own")
    # Pillow reads only the upper eight bits of such colours.
    stored = [str(tile[3]) for tile in getattr(image, "tile", ())]
    deep_colours = any("RGB" in mode and ";16" in mode for mode in stored)
    if deep_colours and window is not None:
        raise ValueError("it has 16-bit colours, to which --window cannot be applied")
    picture = as_array(upright(image), shape, window)
    if image.info.get(medical.INVERTED):
        picture = 255 - picture
    if deep_colours and picture.max() < _FEW_COLOURS:
        raise ValueError(
            f"its 16-bit colours would become 0 to {picture.max()} of 255; convert it to 8 bits"
        )
    return picture


def _is_series(image: Image.Image) -> bool:
    """Return whether a file is an animation or a stack, not a picture and its thumbnails."""
    if image.format not in _SERIES or not getattr(image, "is_animated", False):
        return False
    first = image.size
    image.seek(1)
    second = image.size
    image.seek(0)
    return first == second


def default_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture, scaled down to a shorter side of 224 if larger."""
    return opened(path, lambda image: limited_size(*_upright_size(image)))


def limited_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width, scaled down to a shorter side of 224 if larger."""
    scale = min(1.0, _LARGEST_DEFAULT_SIDE / min(height, width))
    return round(height * scale), round(width * scale)


def upright(image: Image.Image) -> Image.Image:
    """Turn or mirror a picture as its EXIF orientation says."""
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    swapped = _orientation(image) in _SWAPPING
    return (image.width, image.height) if swapped else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """Return the orientation from 1 to 8, and 1 if there is none or it cannot be read."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and gives their upright size
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return _orientation_in(block.removeprefix(b"Exif\0\0"))
    with contextlib.suppress(Exception):  # what stands in for EXIF may be damaged in any way
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _orientation_in(block: bytes) -> int:
    """Read one tag of an EXIF block and no other, as others may be damaged."""
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(block[place : place + size], order)

    directory = number(4, 4)
    for place in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if number(place, 2) == _ORIENTATION:
            return number(place + 8, 2 if number(place + 2, 2) == _SHORT else 4)
    return 1


def opened(path: Path, use: Callable[[Image.Image], Value]) -> Value:
    """Return ``use`` of the picture in a file. Raises ``DataError`` that names the file."""
    try:
        if _is_medical(path):
            return use(medical.open_picture(path, MOST_PIXELS))
        with Image.open(path, formats=FORMATS) as image:
            return use(image)
    except FedcliError:
        raise
    except UnidentifiedImageError as error:
        raise _other_format(path) from error
    except Exception as error:  # Pillow's decoders raise many types; all mean a bad file
        if is_memory_error(error):
            raise
        hint = error.hint if isinstance(error, RangeError) else None
        raise DataError(
            f"is a picture that cannot be decoded: {reason_of(error)}", path=path, hint=hint
        ) from error


def reason_of(error: Exception) -> str:
    """Return why a picture cannot be used."""
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MOST_PIXELS // 1_000_000} million pixels; scale it down first"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _other_format(path: Path) -> DataError:
    known = ", ".join(FORMATS)
    found = kind_of(path)
    if found is None:
        return DataError(f"is not a picture in one of the formats {known}", path=path)
    return DataError(f"is {found}; expected a picture in one of the formats {known}", path=path)


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
