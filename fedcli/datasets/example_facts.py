"""What is in each example of a data set: size, bits, range of values, and a digest of its content.

Pictures are decoded as for training, once each, so that what training would refuse is found.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from fedcli.datasets import pictures
from fedcli.datasets.base import Part
from fedcli.datasets.listing import Listing
from fedcli.datasets.shards import chunks
from fedcli.datasets.windows import Window
from fedcli.errors import DataError
from fedcli.formats.dtypes import Array
from fedcli.progress import Progress

# Bits of a value in the modes of Pillow that have others than 8.
_BITS = {"1": 1, "I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}


@dataclass(frozen=True, slots=True)
class ExampleFacts:
    """One example: where it is, its class, and what was found in it.

    ``mode`` is Pillow's name for the channels, or the shape of an array; ``low`` and ``high`` are
    the range of its values as they are stored. Examples of the same ``digest`` are alike, value by
    value.
    """

    part: str
    name: str
    label: int
    width: int
    height: int
    mode: str
    bits: int
    low: float
    high: float
    digest: bytes


Found = tuple[list[ExampleFacts], list[DataError]]


def facts_of_pictures(
    part: str, listing: Listing, shape: tuple[int, ...], progress: Progress
) -> Found:
    """Decode the pictures of a part to ``shape``; return their facts, and errors of bad files."""
    labels = listing.labels.tolist()
    where = "" if part == "all" else f"{listing.root.name}/"

    def one(number: int) -> ExampleFacts | DataError:
        name = listing.names[number]
        use = partial(_facts, part, f"{where}{name}", labels[number], shape, listing.window)
        try:
            return pictures.opened(listing.root / name, use)
        except DataError as error:
            return error
        finally:
            progress.advance()

    found = pictures.each(one, range(len(labels)), threads=listing.threads())
    return (
        [each for each in found if isinstance(each, ExampleFacts)],
        [each for each in found if isinstance(each, DataError)],
    )


def _facts(
    part: str,
    name: str,
    label: int,
    shape: tuple[int, ...],
    window: Window | None,
    image: Image.Image,
) -> ExampleFacts:
    pictures.decoded(image, shape, window)
    low, high = _range(image)
    content = hashlib.sha256(f"{image.mode} {image.size}".encode())
    content.update(image.tobytes())
    bits = _BITS.get(image.mode, 8)
    return ExampleFacts(
        part, name, label, *image.size, image.mode, bits, low, high, content.digest()
    )


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest value of all channels, of transparency too."""
    found = image.getextrema()
    pairs = found if isinstance(found[0], tuple) else (found,)
    return float(min(pair[0] for pair in pairs)), float(max(pair[1] for pair in pairs))


def facts_of_part(name: str, part: Part, bytes_each: int, progress: Progress) -> Found:
    """Read all examples of a part that is not a folder of files; return facts and errors."""
    facts: list[ExampleFacts] = []
    errors: list[DataError] = []
    for chunk in chunks(np.arange(len(part.labels)), max(1, bytes_each)):
        try:
            facts += _of_arrays(name, chunk.tolist(), part.labels, part.read(chunk))
        except DataError as error:
            errors.append(error)
        progress.advance(len(chunk))
    return facts, errors


def _of_arrays(
    part: str, numbers: Sequence[int], labels: Array, values: Array
) -> Iterator[ExampleFacts]:
    shape = values.shape[1:]
    height, width = shape[1:] if len(shape) == 3 else (0, 0)
    mode = f"{values.dtype} {'×'.join(map(str, shape))}"
    for number, one in zip(numbers, values, strict=True):
        yield ExampleFacts(
            part,
            f"{part}[{number}]",
            int(labels[number]),
            width,
            height,
            mode,
            8 * values.dtype.itemsize,
            float(one.min()),
            float(one.max()),
            hashlib.sha256(np.ascontiguousarray(one).data).digest(),
        )
