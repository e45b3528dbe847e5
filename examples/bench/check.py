"""Compare ``fedcli check`` with decoding the same pictures, in pairs.

    python examples/bench/check.py --folder FOLDER --repeat 7

Both list the folder and decode each picture once, with the same threads, in this process;
``check`` also hashes, compares and judges them. They run in turns, after one run of each. Without
``--folder``, ``--pictures`` JPEG files of 32×32 pixels of noise are written first.

Printed are the seconds of both, and at last the median of their ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fedcli import check
from fedcli.datasets import DataOptions, pictures
from fedcli.datasets.imagefolder import read_contents
from fedcli.datasets.listing import shape_of


def write_pictures(folder: Path, count: int) -> None:
    """Write pictures of two classes."""
    noise = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("ant", "bee")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(path)


def decode(folder: Path) -> None:
    """Decode every picture once, part by part."""
    found = read_contents(folder, None, None, skip_missing=False)
    shape = shape_of(found.listings, DataOptions())
    for listing in found.listings:
        pictures.each(
            lambda path: pictures.load(path, shape), listing.paths, threads=listing.threads()
        )


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(folder: Path, repeat: int) -> None:
    """Time both in turns, and print what they took."""
    ratios = []
    for number in range(repeat + 1):
        plain, checked = seconds(lambda: decode(folder)), seconds(lambda: check(str(folder)))
        if number:
            ratios.append(checked / plain)
            print(f"decoding {plain:.2f} s, check {checked:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"check / decoding: {statistics.median(ratios):.2f}, the median of {repeat}")


def main() -> None:
    """Read the options, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="a folder of class folders")
    parser.add_argument("--pictures", type=int, default=10_000, help="how many to write without")
    parser.add_argument("--repeat", type=int, default=5, help="number of pairs")
    options = parser.parse_args()
    if options.folder is not None:
        compare(options.folder, options.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.pictures)
        compare(Path(folder), options.repeat)


if __name__ == "__main__":
    main()
