"""Draw grey pictures of two classes, ``normal`` and ``nodule``, as a stand-in for scans.

Each hospital's pictures differ a little in brightness and noise, as those of real scanners do.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def scan(rng: np.random.Generator, size: int, gain: float, nodule: bool) -> Image.Image:
    rows, columns = np.mgrid[0:size, 0:size] / size - 0.5
    lung = np.hypot(rows / 0.42, columns / 0.34) < 1
    picture = 60 + 50 * lung + rng.normal(0, 12, (size, size))
    if nodule:
        row, column = rng.uniform(-0.2, 0.2, 2)
        picture += 90 * (np.hypot(rows - row, columns - column) < rng.uniform(0.06, 0.12))
    return Image.fromarray((gain * picture).clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=120, help="of each class")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    rng = np.random.default_rng(zlib.crc32(options.folder.name.encode()))
    gain = rng.uniform(0.8, 1.2)
    for label in ("normal", "nodule"):
        (options.folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(options.pictures):
            picture = scan(rng, options.size, gain, nodule=label == "nodule")
            picture.save(options.folder / label / f"{number:04d}.png")


if __name__ == "__main__":
    main()
